-- Functions that are bounded give what the engine's own give.
select repeat('ab', 3) as a, repeat('ab', -1) as b, repeat(null, 3) as c, lpad('7', 3, '0') as d, rpad('x', 2) as e, replace('a.b', '.', '::') as f;
select distinct device_id || '-' || 1, 'n' || null as n, concat(device_id, null, '!') as c, concat_ws(', ', device_id, null, 'x') as w from telemetry order by 1;
select device_id || '!' as d, count(*) as n from telemetry group by device_id || '!' having device_id || '!' like 'd1%' order by device_id || '!';
select count(*) as n from telemetry where device_id || note like 'd_a%' and (select max(device_id || 'z') from telemetry) = 'd2z';
select range(3) as a, range(1, 6, 2) as b, generate_series(3, 1, -1) as c, array_repeat('x', 2) as d, array_resize([1], 2, 0) as e, [1] || [2] as f;
select unnest(generate_series(date '2026-01-30', date '2026-03-01', interval '1 month')) as day;
select unnest(range(timestamp '2026-01-01', timestamp '2026-01-01T02:00:00', interval '1 hour')) as hour;
select count(*) as n, max(value) as last from generate_series(timestamp '2026-01-01', timestamp '2026-01-02', interval '1 second');
explain select device_id || 'x' from telemetry where false;
