"""Azure's clients of Key Vault against the stand-in: every step asserts what the service would do.

The last line of standard output is JSON: the names of the steps that were taken.
"""

import argparse
import base64
import datetime
import hashlib
import json
import time
import urllib.request

from azure.core.credentials import AccessToken
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.keyvault.certificates import (
    CertificateClient,
    CertificateContentType,
    CertificatePolicy,
    KeyCurveName,
    KeyType,
)
from azure.keyvault.keys import KeyClient
from azure.keyvault.keys.crypto import CryptographyClient, SignatureAlgorithm
from azure.keyvault.secrets import SecretClient
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID

PKCS12 = CertificateContentType.pkcs12
PEM = CertificateContentType.pem
# Polling of a creation begins at once; what polls a deletion asks after two seconds, unless told otherwise.
QUICK = {"_polling_interval": 0}


class ManagedIdentity:
    """App Service's protocol, as azure-identity speaks it."""

    def __init__(self, endpoint, header):
        self.endpoint = endpoint
        self.header = header
        self.asked = []

    def get_token(self, *scopes, **options):
        self.asked.append((scopes, options.get("tenant_id")))
        resource = scopes[0].removesuffix("/.default")
        request = urllib.request.Request(
            f"{self.endpoint}?api-version=2019-08-01&resource={resource}",
            headers={"X-IDENTITY-HEADER": self.header},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            body = json.load(answer)
        assert body["token_type"] == "Bearer" and body["resource"] == resource, body
        return AccessToken(body["access_token"], int(body["expires_on"]))


class Session:
    def __init__(self, arguments):
        self.vault = arguments.vault
        self.switches = arguments.switches
        self.credential = ManagedIdentity(arguments.identity_endpoint, arguments.identity_header)
        options = {
            "credential": self.credential,
            "connection_verify": arguments.ca,
            "verify_challenge_resource": False,
            # Of what the SDK retries by itself, only that which the service told it to.
            "retry_backoff_factor": 0.05,
        }
        if arguments.api_version:
            options["api_version"] = arguments.api_version
        self.certificates = CertificateClient(self.vault, **options)
        self.secrets = SecretClient(self.vault, **options)
        self.keys = KeyClient(self.vault, **options)
        self.options = options

    def switch(self, path, body, method="PUT"):
        request = urllib.request.Request(
            f"{self.switches}/{path}", json.dumps(body).encode() if body is not None else None, method=method
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read() or b"null")

    # The steps, in order.

    def authenticates_by_challenge(self):
        assert list(self.certificates.list_properties_of_certificates()) == []
        scopes, tenant = self.credential.asked[0]
        assert scopes == ("https://vault.azure.net/.default",), scopes
        assert tenant and "/" not in tenant, tenant
        counts = self.switch("requests", None, "GET")["counts"]
        assert counts == {"GET /certificates 401": 1, "GET /certificates 200": 1}, counts

    def creates_a_self_signed_certificate(self):
        policy = CertificatePolicy(
            issuer_name="Self",
            subject="CN=a.example",
            san_dns_names=["a.example", "b.example"],
            validity_in_months=6,
            exportable=True,
            key_type=KeyType.ec,
            key_curve_name=KeyCurveName.p_256,
            content_type=PKCS12,
        )
        made = self.certificates.begin_create_certificate("self", policy).result()
        assert made.name == "self" and made.properties.enabled, made
        assert made.id.startswith(f"{self.vault}/certificates/self/"), made.id
        assert made.secret_id == f"{self.vault}/secrets/self/{made.properties.version}", made.secret_id
        assert made.key_id == f"{self.vault}/keys/self/{made.properties.version}", made.key_id
        certificate = x509.load_der_x509_certificate(bytes(made.cer))
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == ["a.example", "b.example"]
        certificate.verify_directly_issued_by(certificate)
        assert made.properties.x509_thumbprint == hashlib.sha1(bytes(made.cer)).digest()
        assert made.properties.expires_on == certificate.not_valid_after_utc
        assert made.properties.not_before == certificate.not_valid_before_utc
        policy = self.certificates.get_certificate_policy("self")
        assert policy.issuer_name == "Self" and policy.key_curve_name == "P-256", policy
        operation = self.certificates.get_certificate_operation("self")
        assert operation.status == "completed" and operation.target.endswith("/certificates/self"), operation

        secret = self.secrets.get_secret("self", made.properties.version)
        assert secret.properties.content_type == PKCS12, secret.properties.content_type
        assert secret.properties.managed and secret.properties.key_id == made.key_id
        key, leaf, _ = pkcs12.load_key_and_certificates(base64.b64decode(secret.value), None)
        assert leaf == certificate and public(key.public_key()) == public(leaf.public_key())

    def merges_a_certificate_made_elsewhere(self):
        authority_key, authority = self.authority("Session CA")
        for content_type in (PKCS12, PEM):
            policy = CertificatePolicy(
                issuer_name="Unknown",
                subject="CN=postern",
                key_type=KeyType.rsa,
                key_size=2048,
                content_type=content_type,
            )
            operation = self.certificates.begin_create_certificate("client", policy).result()
            assert operation.status == "inProgress", operation.status
            assert "Perform Merge" in operation.status_details, operation.status_details
            try:
                self.certificates.begin_create_certificate("client", policy).result()
                raise AssertionError("two creations at a time")
            except ResourceExistsError as error:
                assert error.status_code == 409 and "inProgress" in error.message, error.message
            request = x509.load_der_x509_csr(bytes(operation.csr))
            assert request.is_signature_valid
            wrong = self.leaf("postern", authority_key, authority, ec.generate_private_key(ec.SECP256R1()).public_key())
            try:
                self.certificates.merge_certificate("client", [wrong])
                raise AssertionError("merged a certificate with another key")
            except HttpResponseError as error:
                assert error.status_code == 400 and error.error.code == "BadParameter", error
            leaf = self.leaf("postern", authority_key, authority, request.public_key())
            chain = [leaf, authority.public_bytes(serialization.Encoding.DER)]
            merged = self.certificates.merge_certificate("client", chain)
            assert bytes(merged.cer) == leaf
            value = self.secrets.get_secret("client").value
            if content_type == PEM:
                key = serialization.load_pem_private_key(value.encode(), None)
                found = x509.load_pem_x509_certificates(value.encode())
            else:
                key, first, others = pkcs12.load_key_and_certificates(base64.b64decode(value), None)
                found = [first, *others]
            assert [c.public_bytes(serialization.Encoding.DER) for c in found] == chain
            assert public(key.public_key()) == public(request.public_key())
        versions = list(self.certificates.list_properties_of_certificate_versions("client", max_page_size=1))
        assert len(versions) == 2 and len({v.version for v in versions}) == 2, versions

    def cancels_and_deletes_a_creation(self):
        policy = CertificatePolicy(issuer_name="Unknown", subject="CN=never", key_type=KeyType.ec)
        self.certificates.begin_create_certificate("never", policy).result()
        assert self.certificates.cancel_certificate_operation("never").cancellation_requested
        assert self.certificates.get_certificate_operation("never").status == "cancelled"
        self.certificates.delete_certificate_operation("never")
        missing(lambda: self.certificates.get_certificate_operation("never"), "PendingCertificateNotFound")

    def imports_pkcs12_and_pem(self):
        key, root = self.authority("Imported")
        pfx = pkcs12.serialize_key_and_certificates(
            b"imported", key, root, None, serialization.BestAvailableEncryption(b"password")
        )
        imported = self.certificates.import_certificate("imported", pfx, password="password")
        assert bytes(imported.cer) == root.public_bytes(serialization.Encoding.DER)
        try:
            self.certificates.import_certificate("imported", pfx, password="wrong")
            raise AssertionError("imported with a wrong password")
        except HttpResponseError as error:
            assert error.status_code == 400, error
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ) + root.public_bytes(serialization.Encoding.PEM)
        policy = CertificatePolicy(issuer_name="Unknown", content_type=PEM)
        self.certificates.import_certificate("imported", pem, policy=policy)
        assert self.secrets.get_secret("imported").value.encode().startswith(b"-----BEGIN PRIVATE KEY-----")

    def disables_and_enables(self):
        version = self.certificates.get_certificate("self").properties.version
        changed = self.certificates.update_certificate_properties(
            "self", version, enabled=False, tags={"reason": "test"}
        )
        assert not changed.properties.enabled and changed.properties.tags == {"reason": "test"}
        assert not self.certificates.get_certificate("self").properties.enabled
        try:
            self.secrets.get_secret("self")
            raise AssertionError("a disabled secret was read")
        except HttpResponseError as error:
            assert error.status_code == 403, error
            assert error.error.innererror["code"] == "SecretDisabled", error.error.innererror
        self.certificates.update_certificate_properties("self", version, enabled=True)
        assert self.secrets.get_secret("self").value

    def deletes_recovers_and_purges(self):
        deleted = self.certificates.begin_delete_certificate("imported", **QUICK).result()
        assert deleted.recovery_id.endswith("/deletedcertificates/imported") and deleted.deleted_on
        missing(lambda: self.certificates.get_certificate("imported"), "CertificateNotFound")
        assert [d.name for d in self.certificates.list_deleted_certificates()] == ["imported"]
        policy = CertificatePolicy(issuer_name="Self", subject="CN=a.example", key_type=KeyType.ec)
        try:
            self.certificates.begin_create_certificate("imported", policy).result()
            raise AssertionError("made a certificate with a deleted one's name")
        except ResourceExistsError as error:
            assert error.error.innererror["code"] == "ObjectIsDeletedButRecoverable", error
        recovered = self.certificates.begin_recover_deleted_certificate("imported", **QUICK).result()
        assert recovered.name == "imported"
        self.certificates.begin_delete_certificate("imported", **QUICK).result()
        self.certificates.purge_deleted_certificate("imported")
        assert list(self.certificates.list_deleted_certificates()) == []
        missing(lambda: self.certificates.get_certificate("imported"), "CertificateNotFound")

    def sets_gets_lists_and_deletes_secrets(self):
        begin = datetime.datetime.fromtimestamp(int(time.time()) + 3600, datetime.timezone.utc)
        end = begin + datetime.timedelta(days=1)
        for value in ("first", "second"):
            made = self.secrets.set_secret(
                "tickets", value, content_type="text/plain", not_before=begin, expires_on=end, tags={"n": value}
            )
            assert made.value == value and made.properties.not_before == begin, made.properties
        newest = self.secrets.get_secret("tickets")
        assert newest.value == "second" and newest.properties.expires_on == end
        assert newest.properties.tags == {"n": "second"}
        versions = list(self.secrets.list_properties_of_secret_versions("tickets", max_page_size=1))
        values = {self.secrets.get_secret("tickets", v.version).value for v in versions}
        assert values == {"first", "second"}, values
        names = {s.name for s in self.secrets.list_properties_of_secrets()}
        assert names == {"tickets", "self", "client"}, names
        changed = self.secrets.update_secret_properties("tickets", newest.properties.version, enabled=False)
        assert not changed.enabled
        self.secrets.begin_delete_secret("tickets", **QUICK).result()
        missing(lambda: self.secrets.get_secret("tickets"), "SecretNotFound")
        self.secrets.begin_recover_deleted_secret("tickets", **QUICK).result()
        assert len(list(self.secrets.list_properties_of_secret_versions("tickets"))) == 2

    def signs_with_keys(self):
        digest = {"256": hashlib.sha256(b"signed").digest(), "384": hashlib.sha384(b"signed").digest()}
        policy = CertificatePolicy(
            issuer_name="Self", subject="CN=c", key_type=KeyType.ec, key_curve_name=KeyCurveName.p_384
        )
        self.certificates.begin_create_certificate("large", policy).result()
        for name, algorithm in (("self", "ES256"), ("large", "ES384"), ("client", "RS256"), ("client", "PS256")):
            key = self.keys.get_key(name)
            assert key.properties.managed, key.properties
            # `sign` asks the vault; `verify` is done here, with the public key.
            remote = CryptographyClient(key, **self.options)
            kind = SignatureAlgorithm(algorithm)
            signature = remote.sign(kind, digest[algorithm[2:]]).signature
            local = CryptographyClient.from_jwk(key.key)
            assert local.verify(kind, digest[algorithm[2:]], signature).is_valid, algorithm
            other = hashlib.new(f"sha{algorithm[2:]}", b"not signed").digest()
            assert not local.verify(kind, other, signature).is_valid, algorithm
        try:
            CryptographyClient(self.keys.get_key("large").id, **self.options).sign(
                SignatureAlgorithm.es256, digest["256"]
            )
            raise AssertionError("signed with another curve's algorithm")
        except HttpResponseError as error:
            assert error.status_code == 400, error

    def meets_faults_as_it_does_the_service(self):
        self.switch("requests", None, "DELETE")
        self.switch("faults", {"throttle": 1, "times": 1})
        self.certificates.get_certificate("self")
        counts = self.switch("requests", None, "GET")["counts"]
        assert counts == {"GET /certificates/self/ 429": 1, "GET /certificates/self/ 200": 1}, counts
        self.switch("faults", {"deny": True, "path": "/secrets/"})
        try:
            self.secrets.get_secret("self")
            raise AssertionError("read what was denied")
        except HttpResponseError as error:
            assert error.status_code == 403 and error.error.code == "Forbidden", error
            assert error.error.innererror["code"] == "ForbiddenByRbac", error.error.innererror
        self.switch("faults", {"error": 503, "times": 1})
        self.certificates.get_certificate("self")
        self.switch("faults", {})

    def asks_for_a_new_token_when_the_old_one_ended(self):
        asked = len(self.credential.asked)
        # Vault and identity are a day ahead; the SDK does not know, and sends the token that it has.
        self.switch("clock", {"ahead": 25 * 3600})
        self.certificates.get_certificate("self")
        assert len(self.credential.asked) == asked + 1, self.credential.asked
        self.switch("clock", {"ahead": 0})

    def reads_every_form_of_contents(self):
        self.switch("authorities/seeded-ca", {"common_name": "Seeded CA"}, "POST")
        authority = x509.load_der_x509_certificate(bytes(self.certificates.get_certificate("seeded-ca").cer))
        for contents in ("pkcs12", "pkcs12-triple-des", "pem"):
            made = {"ca": "seeded-ca", "names": ["a.example"], "contents": contents, "rsa": contents == "pem"}
            version = self.switch("certificates/seeded", made, "POST")["version"]
            value = self.secrets.get_secret("seeded", version).value
            if contents == "pem":
                key = serialization.load_pem_private_key(value.encode(), None)
                leaf = x509.load_pem_x509_certificate(value.encode())
            else:
                key, leaf, _ = pkcs12.load_key_and_certificates(base64.b64decode(value), None)
            leaf.verify_directly_issued_by(authority)
            assert public(key.public_key()) == public(leaf.public_key()), contents
        # A key that may not leave the vault is not in the secret.
        assert "PRIVATE KEY" not in self.secrets.get_secret("seeded-ca").value
        self.switch("certificates/seeded/newest", {"enabled": False})
        assert not self.certificates.get_certificate("seeded").properties.enabled

    # What the steps have in common.

    def authority(self, name):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        return key, builder(subject, subject, key.public_key()).sign(key, hashes.SHA256())

    def leaf(self, name, authority_key, authority, public_key):
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        leaf = builder(subject, authority.subject, public_key).sign(authority_key, hashes.SHA256())
        return leaf.public_bytes(serialization.Encoding.DER)


def builder(subject, issuer, public_key):
    now = datetime.datetime.now(datetime.timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=30))
    )


def public(key):
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def missing(call, code):
    try:
        call()
    except ResourceNotFoundError as error:
        assert error.error.code == code, error.error.code
        return
    raise AssertionError(f"expected {code}")


STEPS = [
    Session.authenticates_by_challenge,
    Session.creates_a_self_signed_certificate,
    Session.merges_a_certificate_made_elsewhere,
    Session.cancels_and_deletes_a_creation,
    Session.imports_pkcs12_and_pem,
    Session.disables_and_enables,
    Session.deletes_recovers_and_purges,
    Session.sets_gets_lists_and_deletes_secrets,
    Session.signs_with_keys,
    Session.meets_faults_as_it_does_the_service,
    Session.asks_for_a_new_token_when_the_old_one_ended,
    Session.reads_every_form_of_contents,
]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--vault", required=True, help="address of the vault")
    parser.add_argument("--switches", required=True, help="address of its switches")
    parser.add_argument("--ca", required=True, help="file with the CA to trust")
    parser.add_argument("--identity-endpoint", required=True, help="what IDENTITY_ENDPOINT says")
    parser.add_argument("--identity-header", required=True, help="what IDENTITY_HEADER says")
    parser.add_argument("--api-version", help="instead of the newest that the packages know")
    session = Session(parser.parse_args())
    for step in STEPS:
        step(session)
    print(json.dumps([step.__name__ for step in STEPS]))


if __name__ == "__main__":
    main()
