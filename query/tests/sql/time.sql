-- Instants are UTC.
select count(*) as n from telemetry where ts >= '2026-11-20T12:00:00Z';
select count(*) as n from telemetry where ts >= timestamp '2026-11-20 12:00:00';
select count(*) as n from telemetry where ts > now() + interval '1000 days';
select date_trunc('day', ts) as day, count(*) as n from telemetry group by 1 order by 1;
select ts, date from telemetry where device_id = 'd1' and date = '2026-11-19' order by ts;
select ts at time zone 'Europe/Berlin' as berlin from telemetry order by ts limit 1;
select date_bin(interval '12 hours', ts) as half, avg(temp) as temp from telemetry where device_id = 'd2' group by half order by half limit 2;
select (ts at time zone 'Asia/Kolkata') as kolkata, timestamp '2026-07-01 00:00:00.000001' as naive, date '2026-07-01' as day, interval '90 minutes' as span from telemetry order by ts limit 1;
