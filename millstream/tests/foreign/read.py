"""Reads a table with DuckDB and with deltalake, and prints what each of them found as JSON.

read.py weather TABLE CSV    figures of the weather by station, and the same of the file that it came from
read.py rows TABLE QUERY     the rows of a query over {table}
"""

import csv
import datetime
import gzip
import json
import math
import sys

FIGURES = """
select device_id, count(*), count(temp), sum(temp), count(pressure), sum(pressure), count(wind_gust), sum(wind_gust),
    cast(sum(extract(epoch from ts)) as bigint)
from {table} group by 1 order by 1
"""


def by_csv(path):
    """Plain Python."""
    figures, seconds = {}, {}
    with gzip.open(path, "rt", newline="") as file:
        for row in csv.DictReader(file):
            station = figures.setdefault(row["origin"], {"rows": 0, "temp": [], "pressure": [], "wind_gust": []})
            station["rows"] += 1
            for field in ("temp", "pressure", "wind_gust"):
                if row[field] not in ("NA", ""):
                    station[field].append(float(row[field]))
            time = datetime.datetime.fromisoformat(row["time_hour"].replace("Z", "+00:00"))
            seconds[row["origin"]] = seconds.get(row["origin"], 0) + int(time.timestamp())
    answer = []
    for origin, station in sorted(figures.items()):
        lists = [station[field] for field in ("temp", "pressure", "wind_gust")]
        answer.append([origin, station["rows"], *(x for values in lists for x in (len(values), math.fsum(values))), seconds[origin]])
    return answer


def by_duckdb(table, query):
    """DuckDB's own Delta reader. Its extension is in a package, so that nothing is downloaded."""
    import duckdb
    import duckdb_extensions

    duckdb_extensions.import_extension("delta")
    connection = duckdb.connect()
    connection.execute("load delta")
    connection.execute("set timezone = 'UTC'")
    rows = connection.execute(query.replace("{table}", f"delta_scan('{table}')")).fetchall()
    return [list(row) for row in rows]


def by_deltalake(table, query):
    """The reader of the delta-rs project."""
    from deltalake import DeltaTable, QueryBuilder

    builder = QueryBuilder().register("it", DeltaTable(table))
    answer = builder.execute(query.replace("{table}", "it")).read_all()
    columns = [answer.column(place).to_pylist() for place in range(answer.num_columns)]
    return [list(row) for row in zip(*columns)]


def by_both(table, query):
    return {"duckdb": by_duckdb(table, query), "deltalake": by_deltalake(table, query)}


def main():
    what, table, rest = sys.argv[1:]
    answer = by_both(table, FIGURES if what == "weather" else rest)
    if what == "weather":
        answer["csv"] = by_csv(rest)
    # Of what is in tables, JSON lacks bytes only.
    print(json.dumps(answer, default=bytes.hex))


if __name__ == "__main__":
    main()
