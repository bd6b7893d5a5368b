-- What there is.
show tables;
describe telemetry;
select table_schema, table_name from information_schema.tables where table_schema <> 'information_schema' order by 1, 2;
select column_name, data_type from information_schema.columns where table_name = 'daily' order by 1;
