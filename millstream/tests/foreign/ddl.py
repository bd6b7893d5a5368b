"""Runs the statements of a file in DuckDB, then a query, and prints its rows as JSON.

ddl.py FILE QUERY
"""

import json
import sys

import duckdb
import duckdb_extensions


def main():
    file, query = sys.argv[1:]
    # In place of `install delta`: it comes as a package, so that nothing is downloaded.
    duckdb_extensions.import_extension("delta")
    connection = duckdb.connect()
    with open(file) as statements:
        connection.execute(statements.read())
    print(json.dumps([list(row) for row in connection.execute(query).fetchall()]))


if __name__ == "__main__":
    main()
