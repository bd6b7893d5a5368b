-- What people ask.
select device_id, count(*) as readings, avg(temp) as temp, min(temp) as low, max(temp) as high from telemetry group by 1 order by 1;
select date, device_id, temp from (select *, row_number() over (partition by device_id order by temp desc, ts) as place from telemetry where temp is not null) where place = 1 order by 2;
select a.date, a.temp - b.temp as difference from telemetry a join telemetry b on a.ts = b.ts where a.device_id = 'd1' and b.device_id = 'd2' and a.temp is not null order by a.ts limit 2;
select approx_percentile_cont(0.5) within group (order by temp) as median from telemetry;
select device_id, regexp_replace(device_id, 'd', 'device ') as name from telemetry group by 1 order by 1;
select count(*) as n from telemetry where temp > (select avg(temp) from telemetry);
values (1, 'x'), (2, null);
select * from generate_series(1, 3);
select 1 / 4.0 as quarter, 1e300 as big, 1e-9 as small, 21.0 as whole, cast('nan' as double) as nan;
select date, device_id, temp from telemetry order by date desc, temp, device_id limit 3;
select temp from telemetry order by temp desc nulls last limit 3;
select distinct date from telemetry order by date;
select max(date) as last, min(date) as first, count(*) as n from telemetry where date < '2026-11-21';
