-- Where a table is looked up, and how a column is written.
select count(*) as n from telemetry;
select count(*) as n from Telemetry;
select count(*) as n from ingestion.telemetry;
select count(*) as n from millstream.ingestion.telemetry;
select readings from reporting.daily;
select readings from daily;
select reason, cast(payload as varchar) as payload from quarantine;
select temp, "PM2.5", "TEMP_F" from telemetry where device_id = 'd1' order by ts limit 1;
with daily as (select 1 as one) select one from daily;
select 1 as one; select device_id,
  tmp from telemetry;
select count(*) as n from telemetry where "PM2.5" > 1;
