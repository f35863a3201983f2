#!/usr/bin/env python3
"""Checks documents against the schemas that they were generated for, with Python's jsonschema.

  validate.py SCHEMAS DOCUMENTS

SCHEMAS: one schema a line. DOCUMENTS: one {"schema": line number from 0, "text": the document} a line.
Needs: jsonschema, rfc3339-validator, rfc3986-validator, isoduration, fqdn (formats that are not checked are counted).
"""
import json
import sys

import jsonschema


def formats(schema):
    if isinstance(schema, dict):
        if isinstance(schema.get("format"), str):
            yield schema["format"]
        for value in schema.values():
            yield from formats(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from formats(value)


def main():
    sys.setrecursionlimit(100_000)
    schemas = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8")]
    kind = jsonschema.Draft202012Validator
    for schema in schemas:
        kind.check_schema(schema)
    checkers = [kind(schema, format_checker=kind.FORMAT_CHECKER) for schema in schemas]
    unchecked = {name for schema in schemas for name in formats(schema)} - set(kind.FORMAT_CHECKER.checkers)
    total = wrong = 0
    seen = set()
    for line in open(sys.argv[2], encoding="utf-8"):
        entry = json.loads(line)
        total += 1
        seen.add(entry["schema"])
        try:
            checkers[entry["schema"]].validate(json.loads(entry["text"]))
        except (ValueError, jsonschema.ValidationError) as error:
            wrong += 1
            print(f"schema {entry['schema']}: {str(error).splitlines()[0]}: {entry['text'][:300]}")
    print(f"{total} documents of {len(seen)} of {len(schemas)} schemas: {wrong} are not valid; "
          f"formats without a checker: {', '.join(sorted(unchecked)) or 'none'}")
    return 1 if wrong or not total else 0


if __name__ == "__main__":
    sys.exit(main())
