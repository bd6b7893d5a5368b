"""Runs the statements of a file in DuckDB, then a query, and prints its rows as JSON.

ddl.py FILE QUERY    tables on S3 are reached with the credentials of AWS_*
"""

import json
import sys

import duckdb
import duckdb_extensions


def main():
    file, query = sys.argv[1:]
    # In place of `install`: they come as packages, so that nothing is downloaded.
    for extension in ("aws", "delta", "httpfs"):
        duckdb_extensions.import_extension(extension)
    connection = duckdb.connect()
    with open(file) as statements:
        connection.execute(statements.read())
    print(json.dumps([list(row) for row in connection.execute(query).fetchall()]))


if __name__ == "__main__":
    main()
