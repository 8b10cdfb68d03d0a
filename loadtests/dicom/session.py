"""One session of a real DICOMweb client: store a study, find it, get it back, and compare every byte.

Prints one JSON line and exits 0 when everything was as expected. Otherwise the reason is on standard error and the exit
code is 1 (2 for wrong arguments). Nothing is retried: a request that fails is a failed session.

    session.py --url https://account.dicom.example/dicom-web --connect 127.0.0.1:8443 --ca ca.pem --expect ok
"""

import argparse
import hashlib
import json
import sys
import time
from urllib.parse import urlsplit

import requests
from dicomweb_client.web import DICOMwebClient
from pydicom.dataset import Dataset
from requests.adapters import HTTPAdapter

from resolve import resolve_to, split_address
from study import Instance, Study, encode, make_study


# Uncompressed pixels, in whatever transfer syntax the instance has.
OCTETS = (("application/octet-stream", "*"),)


class Failed(Exception):
    """Something was not as expected."""


class Traffic:
    """Counts answers, and keeps the last body for comparison with what was sent."""

    def __init__(self) -> None:
        self.requests = 0
        self.last: requests.Response | None = None

    def __call__(self, response: requests.Response, **_: object) -> requests.Response:
        self.requests += 1
        self.last = response
        return response


def check(condition: bool, reason: str) -> None:
    if not condition:
        raise Failed(reason)


def connect(arguments: argparse.Namespace) -> tuple[DICOMwebClient, Traffic]:
    """A client without retries that trusts `--ca` alone and takes nothing from the environment."""
    session = requests.Session()
    session.trust_env = False
    if arguments.ca:
        session.verify = arguments.ca
    session.cert = (arguments.cert, arguments.key) if arguments.cert else None
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=0))
    traffic = Traffic()
    client = DICOMwebClient(arguments.url, session=session, callback=traffic, timeout=arguments.timeout)
    client.set_http_retry_params(retry=False)
    return client, traffic


def store(client: DICOMwebClient, study: Study) -> int:
    """STOW-RS: the small instances in one request, the large one in a request of its own (chunked)."""
    stored = 0
    for batch in (study.small, [study.large] if study.large else []):
        if not batch:
            continue
        answer = client.store_instances([i.dataset for i in batch], study_instance_uid=study.uid)
        accepted = {item.ReferencedSOPInstanceUID for item in answer.get("ReferencedSOPSequence", [])}
        check(accepted == {i.uid for i in batch}, f"STOW-RS accepted {sorted(accepted)} of {[i.uid for i in batch]}")
        check(not answer.get("FailedSOPSequence"), "STOW-RS reports failed instances")
        stored += len(accepted)
    return stored


def search(client: DICOMwebClient, study: Study) -> int:
    """QIDO-RS: the study by patient, its series, its instances. Returns the number of instances found."""
    found = [Dataset.from_json(s) for s in client.search_for_studies(search_filters={"PatientID": study.patient_id})]
    check([s.StudyInstanceUID for s in found] == [study.uid], f"QIDO-RS found {len(found)} studies, not this one")
    check(found[0].PatientName == study.instances[0].dataset.PatientName, "QIDO-RS changed the patient's name")

    series = [Dataset.from_json(s).SeriesInstanceUID for s in client.search_for_series(study.uid)]
    check(sorted(series) == sorted({i.series for i in study.instances}), f"QIDO-RS found the series {series}")

    instances = [Dataset.from_json(i).SOPInstanceUID for i in client.search_for_instances(study.uid)]
    check(sorted(instances) == sorted(i.uid for i in study.instances), f"QIDO-RS found the instances {instances}")
    return len(instances)


def retrieve(client: DICOMwebClient, traffic: Traffic, study: Study) -> dict[str, int]:
    """WADO-RS: every instance alone, each series whole, the study as a stream, metadata, and frames."""
    counts = {"retrieved": 0, "bytes": 0, "metadata": 0, "frames": 0}

    def same(got: Dataset, want: Instance, how: str) -> None:
        encoded = encode(got)
        if encoded != want.encoded:
            raise Failed(f"{how} {want.uid}: {difference(encoded, want.encoded)}")
        counts["retrieved"] += 1
        counts["bytes"] += len(encoded)

    for sent in study.instances:
        same(client.retrieve_instance(study.uid, sent.series, sent.uid), sent, "instance")
        check(sent.encoded in traffic.last.content, f"instance {sent.uid}: the raw body does not hold the file sent")

    by_uid = {i.uid: i for i in study.instances}
    for uid in {i.series for i in study.instances}:
        got = client.retrieve_series(study.uid, uid)
        check(len(got) == sum(i.series == uid for i in study.instances), f"series {uid} came back with {len(got)}")
        for dataset in got:
            same(dataset, by_uid[dataset.SOPInstanceUID], "series")
    streamed = 0
    for dataset in client.iter_study(study.uid):
        same(dataset, by_uid[dataset.SOPInstanceUID], "streamed study")
        streamed += 1
    check(streamed == len(by_uid), f"the streamed study has {streamed} instances instead of {len(by_uid)}")

    for sent in study.instances:
        json_model = client.retrieve_instance_metadata(study.uid, sent.series, sent.uid)
        metadata = Dataset.from_json(json_model, bulk_data_uri_handler=lambda _tag, _vr, uri: bulk_data(client, uri))
        for element in sent.dataset:
            check(metadata.get(element.tag) == element, f"metadata of {sent.uid}: {element.keyword} differs")
        counts["metadata"] += 1
        for number, frame in frames(client, study, sent):
            if frame != sent.frame(number):
                raise Failed(f"frame {number} of {sent.uid}: {difference(frame, sent.frame(number))}")
            counts["frames"] += 1
    return counts


def bulk_data(client: DICOMwebClient, uri: str) -> bytes:
    """What the metadata leave out, from the URI they give for it.

    The server makes that URI from the Host it saw, so it must name the host the client asked. Its scheme and port are
    those of the server's own listener, which a server behind a proxy cannot know: the client's take their place.
    """
    got, asked = urlsplit(uri), urlsplit(client.base_url)
    check(got.hostname == asked.hostname, f"the server was asked as {got.hostname} instead of {asked.hostname}")
    uri = got._replace(scheme=asked.scheme, netloc=asked.netloc).geturl()
    parts = client.retrieve_bulkdata(uri, media_types=OCTETS)
    check(len(parts) == 1, f"{len(parts)} parts of bulk data came back for 1")
    return bytes(parts[0])


def difference(got: bytes, sent: bytes) -> str:
    """Where two texts of bytes part, in words."""
    at = next((i for i, (a, b) in enumerate(zip(got, sent)) if a != b), min(len(got), len(sent)))
    return f"{len(got)} bytes came back for {len(sent)} sent, the first difference is at byte {at}"


def frames(client: DICOMwebClient, study: Study, sent: Instance):
    """First, middle and last frame as one answer; then all of them, one by one, as a stream."""
    some = sorted({1, (sent.frames + 1) // 2, sent.frames})
    got = client.retrieve_instance_frames(study.uid, sent.series, sent.uid, some, media_types=OCTETS)
    check(len(got) == len(some), f"{len(got)} frames of {sent.uid} came back for {len(some)}")
    yield from zip(some, got)
    everything = range(1, sent.frames + 1)
    streamed = 0
    for frame in client.iter_instance_frames(study.uid, sent.series, sent.uid, everything, media_types=OCTETS):
        streamed += 1
        yield streamed, bytes(frame)
    check(streamed == sent.frames, f"{streamed} frames of {sent.uid} were streamed for {sent.frames}")


def expect_ok(client: DICOMwebClient, traffic: Traffic, study: Study) -> dict[str, object]:
    stored = store(client, study)
    found = search(client, study)
    counts = retrieve(client, traffic, study)
    whole = hashlib.sha256(b"".join(i.encoded for i in study.instances)).hexdigest()
    instances = [{"uid": i.uid, "bytes": len(i.encoded), "sha256": i.sha256} for i in study.instances]
    return {
        "study": study.uid,
        "stored": stored,
        "found": found,
        **counts,
        "sha256": whole,
        "instances": instances,
    }


def expect_refused(client: DICOMwebClient, study: Study, status: int) -> dict[str, object]:
    """Search, retrieve and store are each refused, with a body that says why."""
    first = study.instances[0]
    attempts = {
        "search": lambda: client.search_for_studies(),
        "retrieve": lambda: client.retrieve_instance(study.uid, first.series, first.uid),
        "store": lambda: client.store_instances([first.dataset]),
    }
    answers = {}
    for name, attempt in attempts.items():
        try:
            attempt()
        except requests.HTTPError as error:
            got = error.response
            check(got.status_code == status, f"{name}: status {got.status_code} instead of {status}")
            check(bool(got.content), f"{name}: the refusal has no body")
            answers[name] = {"type": got.headers.get("Content-Type"), "body": got.text}
        else:
            raise Failed(f"{name} was answered instead of refused with {status}")
    return {"refused": len(answers), "answers": answers}


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", required=True, help="root of the service, as https://host[:port]/dicom-web")
    parser.add_argument("--connect", type=split_address, help="address host:port at which the URL's host is found")
    parser.add_argument("--ca", help="PEM file of the one certificate authority to trust; needed for https")
    parser.add_argument("--cert", help="PEM file of a client certificate, for an ingress that demands one")
    parser.add_argument("--key", help="PEM file of its key")
    parser.add_argument("--expect", choices=("ok", "403"), default="ok")
    parser.add_argument("--seed", default="postern", help="another seed is another study")
    parser.add_argument("--small", type=int, default=3, help="number of single-frame instances")
    parser.add_argument("--large-mib", type=int, default=64, help="size of the multi-frame instance, 0 for none")
    parser.add_argument("--timeout", type=float, default=60, help="seconds to wait for a connection or the next bytes")
    arguments = parser.parse_args(argv)
    if arguments.url.startswith("https:") and not arguments.ca:
        parser.error("--ca is needed for https")
    if arguments.small < 1:
        parser.error("--small is at least 1")
    return arguments


def main() -> int:
    arguments = parse()
    if arguments.connect:
        resolve_to(urlsplit(arguments.url).hostname, arguments.connect)
    refusal = None if arguments.expect == "ok" else int(arguments.expect)
    study = make_study(arguments.seed, arguments.small, 0 if refusal else arguments.large_mib)
    client, traffic = connect(arguments)
    begin = time.monotonic()
    try:
        if refusal:
            outcome = expect_refused(client, study, refusal)
        else:
            outcome = expect_ok(client, traffic, study)
    except Exception as error:  # whatever the client's libraries throw at a broken answer is a failed session
        print(f"dicom session: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    outcome |= {"expect": arguments.expect, "requests": traffic.requests}
    outcome["seconds"] = round(time.monotonic() - begin, 3)
    print(json.dumps(outcome))
    return 0


if __name__ == "__main__":
    sys.exit(main())
