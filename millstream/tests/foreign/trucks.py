"""What a file of truck readings holds, and what DuckDB finds in the table that was made of it, as JSON.

trucks.py FILE LINES TABLE QUARANTINE    TABLE and QUARANTINE are s3:// URLs; the store's address and credentials come from AWS_*
"""

import gzip
import itertools
import json
import math
import os
import sys
from urllib.parse import urlsplit

FIGURES = """
select device_id, count(*), count(fields_velocity), sum(fields_velocity), count(fields_fuel_state), sum(fields_fuel_state),
    cast(sum(extract(epoch from ts)) as bigint)
from {table} group by 1 order by 1
"""


def by_file(path, lines):
    """Plain Python."""
    from datetime import datetime

    trucks, nameless = {}, 0
    with gzip.open(path, "rt") as file:
        for line in itertools.islice(file, lines):
            reading = json.loads(line)
            name = reading["tags"]["name"]
            if name is None:
                nameless += 1
                continue
            truck = trucks.setdefault(name, {"rows": 0, "seconds": 0, "velocity": [], "fuel_state": []})
            truck["rows"] += 1
            truck["seconds"] += int(datetime.fromisoformat(reading["ts"].replace("Z", "+00:00")).timestamp())
            for field in ("velocity", "fuel_state"):
                value = reading["fields"].get(field)
                if value is not None:
                    truck[field].append(float(value))
    figures = []
    for name, truck in sorted(trucks.items()):
        sums = [figure for field in ("velocity", "fuel_state") for figure in (len(truck[field]), math.fsum(truck[field]))]
        figures.append([name, truck["rows"], *sums, truck["seconds"]])
    return {"trucks": figures, "nameless": nameless}


def by_duckdb(table, quarantine):
    """DuckDB's own Delta reader, over S3. Its extensions are in packages, so that nothing is downloaded."""
    import duckdb
    import duckdb_extensions

    endpoint = urlsplit(os.environ["AWS_ENDPOINT_URL"])
    for extension in ("httpfs", "delta"):
        duckdb_extensions.import_extension(extension)
    database = duckdb.connect()
    for extension in ("httpfs", "delta"):
        database.execute(f"load {extension}")
    database.execute("set timezone = 'UTC'")
    database.execute(
        "create secret (type s3, key_id '{}', secret '{}', region '{}', endpoint '{}', use_ssl {}, url_style 'path')".format(
            os.environ["AWS_ACCESS_KEY_ID"],
            os.environ["AWS_SECRET_ACCESS_KEY"],
            os.environ["AWS_REGION"],
            endpoint.netloc,
            str(endpoint.scheme == "https").lower(),
        )
    )
    trucks = database.execute(FIGURES.replace("{table}", f"delta_scan('{table}')")).fetchall()
    nameless = database.execute(f"select count(*) from delta_scan('{quarantine}') where reason = 'missing_field'").fetchone()
    return {"trucks": [list(row) for row in trucks], "nameless": nameless[0]}


def main():
    path, lines, table, quarantine = sys.argv[1:]
    print(json.dumps({"file": by_file(path, int(lines)), "duckdb": by_duckdb(table, quarantine)}))


if __name__ == "__main__":
    main()
