"""The account-routing service as its OpenAPI document describes it.

First the document itself, as a validator that is independent of us understands it. Then the service is asked what the
document says it can be asked, and much that it should not be asked: whatever comes, no answer is the service's own
failure, and none is another than the document has.

The last line of standard output is JSON: what was done.
"""

import argparse
import json
import subprocess
import sys
import tempfile

import requests
from openapi_spec_validator import OpenAPIV31SpecValidator

# What is checked of each answer. Streams have no end, so they are not asked for.
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
STREAMS = "^/v1/changes$"


# Names that are there, and one each that is not: others would be refused before anything is done.
NAMES = {
    "workspace": ["stack", "other"],
    "account": ["hospital-a", "hospital-b", "hospital-c"],
    "name": ["link-1002", "link-1003", "link-1"],
}


def name_what_is_there(document):
    for path in document["paths"].values():
        for operation in path.values():
            for parameter in operation.get("parameters", []):
                if parameter["in"] == "path":
                    parameter["schema"] = {"type": "string", "enum": NAMES[parameter["name"]]}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--ca", required=True)
    parser.add_argument("--cert", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--examples", required=True, help="how many requests of each kind are made up")
    parser.add_argument("--seconds", required=True, help="after which no more are made up")
    parser.add_argument("--seed", required=True)
    arguments = parser.parse_args()

    place = f"{arguments.url}/v1/openapi.json"
    client = (arguments.cert, arguments.key)
    answer = requests.get(place, cert=client, verify=arguments.ca, timeout=10)
    answer.raise_for_status()
    document = answer.json()
    errors = [error.message for error in OpenAPIV31SpecValidator(document).iter_errors()]
    assert not errors, errors

    name_what_is_there(document)
    command = [
        *[sys.executable, "-m", "schemathesis.cli", "run", "openapi.json", "--url", arguments.url],
        *["--request-cert", arguments.cert, "--request-cert-key", arguments.key],
        *["--tls-verify", arguments.ca, "--request-timeout", "10"],
        *["--max-examples", arguments.examples, "--seed", arguments.seed],
        *["--phases", "examples,coverage,fuzzing", "--mode", "all"],
        *["--checks", CHECKS, "--exclude-path-regex", STREAMS],
        *["--max-time", arguments.seconds, "--generation-database", "none"],
        *["--max-failures", "10", "--no-color"],
    ]
    # It leaves what it remembers where it runs.
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/openapi.json", "w", encoding="utf-8") as file:
            json.dump(document, file)
        fuzzed = subprocess.run(command, check=False, capture_output=True, text=True, cwd=folder)
    print(fuzzed.stdout)
    print(fuzzed.stderr, file=sys.stderr)
    print(json.dumps({"paths": len(document["paths"]), "fuzzer": fuzzed.returncode}))


if __name__ == "__main__":
    main()
