"""What a machine is given: cloud-init, configuration, units, the installer. The programs read their files for real."""

import base64
import hashlib
import http.server
import json
import os
import pathlib
import re
import shutil
import ssl
import subprocess
import tempfile
import threading
import tomllib
import unittest

import jsonschema
import yaml

from deployment import FOLDER, VARIANTS, files, variant, written

SYSTEMD = FOLDER.parent / "systemd"
UNITS = ("postern.service", "postern-control.service")
PROGRAMS = pathlib.Path(os.environ["POSTERN_PROGRAMS"])
CLOUD_INIT_SCHEMA = pathlib.Path(os.environ["CLOUD_INIT_SCHEMA"])
# Limit: Azure takes 64 KiB of user data, in base64.
USER_DATA_MAX = 65535
# Limit: of systemd's 0 to 10, where under 2 is "OK"; what it is now, rounded up.
EXPOSURE_MAX = 1.3
# What an upgrade, the allocator and the runtime cannot do without.
NEEDED = {"execve", "clone", "clone3", "wait4", "waitid", "pidfd_open", "sendmsg", "recvmsg", "socketpair", "bind", "listen",
          "accept4", "epoll_wait", "eventfd2", "mmap", "munmap", "madvise", "mprotect", "futex", "rename", "fsync", "kill",
          "sched_getaffinity", "sched_yield", "getrandom", "splice", "prlimit64", "rseq", "set_robust_list"}
REFUSED = {"ptrace", "mount", "bpf", "init_module", "reboot", "setuid", "chroot", "keyctl", "sched_setaffinity", "swapon"}


def run(*command, **more):
    """A program's exit code and all it says."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False, **more)
    return done.returncode, done.stdout


class CloudInit(unittest.TestCase):
    def test_it_has_the_form_that_cloud_init_publishes(self):
        schema = json.loads(CLOUD_INIT_SCHEMA.read_text())
        for name in VARIANTS:
            source = variant(name).cloud_init()
            self.assertTrue(source.startswith("#cloud-config\n"))
            jsonschema.Draft4Validator(schema).validate(yaml.safe_load(source))
        with self.assertRaises(jsonschema.ValidationError):
            jsonschema.Draft4Validator(schema).validate({"write_files": [{"content": "no path"}]})

    def test_every_blank_is_filled_and_it_is_not_too_long(self):
        for name in VARIANTS:
            ours = variant(name)
            self.assertLess(len(base64.b64encode(ours.cloud_init().encode())), USER_DATA_MAX)
            for path, content in files(ours).items():
                self.assertNotIn("@@", content, path)

    def test_its_files_are_those_of_the_repository(self):
        ours = files(variant("example"))
        for path, name in (
            ("/etc/systemd/system/postern.service", "postern.service"),
            ("/etc/systemd/system/postern-control.service", "postern-control.service"),
            ("/usr/lib/sysusers.d/postern.conf", "postern.sysusers"),
            ("/usr/lib/tmpfiles.d/postern.conf", "postern.tmpfiles"),
            ("/usr/local/sbin/postern-install", "postern-install"),
        ):
            self.assertEqual(ours[path], (SYSTEMD / name).read_text())

    def test_the_sidecar_is_started_before_postern_and_both_after_the_programs(self):
        source = variant("example").cloud_init()
        steps = ["[systemd-sysusers]", "sysctl, --system", "until /usr/local/sbin/postern-install;",
                 "enable --now postern-control.service", "enable --now postern.service", "8080/healthz"]
        runs = source[source.index("\nruncmd:"):]
        places = [runs.index(it) for it in steps]
        self.assertEqual(places, sorted(places))

    def test_its_commands_are_shell(self):
        for name in VARIANTS:
            for command in yaml.safe_load(variant(name).cloud_init())["runcmd"]:
                if command[0] == "sh":
                    self.assertEqual(run("sh", "-n", "-c", command[-1]), (0, ""), command)
        self.assertEqual(run("shellcheck", SYSTEMD / "postern-install", FOLDER / "certificates" / "prepare"), (0, ""))

    def test_idle_connections_are_probed_before_azure_forgets_them(self):
        source = written(variant("example"), "60-postern.conf")
        value = {key: int(re.search(rf"net.ipv4.tcp_keepalive_{key} = (\d+)", source)[1]) for key in ("time", "intvl", "probes")}
        self.assertLess(value["time"] + value["intvl"] * value["probes"], 240)
        low = int(re.search(r"ip_local_port_range = (\d+)", source)[1])
        self.assertGreater(low, 9999, "a port that we listen on could be taken")

    def test_metrics_are_pushed_from_the_loopback(self):
        config = yaml.safe_load(written(variant("example"), "prometheus.yml"))
        targets = {it["static_configs"][0]["targets"][0] for it in config["scrape_configs"]}
        self.assertEqual(targets, {"127.0.0.1:9090", "127.0.0.1:9091"})
        self.assertIn("azuread", config["remote_write"][0])
        # What the rules and dashboards go by.
        self.assertEqual(config["global"]["external_labels"], {"region": "westeurope"})
        self.assertEqual([it["job_name"] for it in config["scrape_configs"]], ["postern", "postern-control"])
        self.assertIn("--web.listen-address=127.0.0.1:", files(variant("example"))["/etc/default/prometheus"])


class Configuration(unittest.TestCase):
    """Each program proves the file that it will be started with."""

    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

    def lay(self, ours, name):
        source = written(ours, name)
        source = source.replace("/var/lib/postern", f"{self.folder}").replace("/var/log/postern", f"{self.folder}")
        path = self.folder / name
        path.write_text(source)
        return path, tomllib.loads(source)

    def check(self, program, path):
        environment = {"PATH": os.environ["PATH"], "POSTERN_UPSTREAM__ZONE": "1"}
        return run(PROGRAMS / program, "check", "-c", path, env=environment)

    def test_the_sidecar_takes_its_configuration(self):
        for name in VARIANTS:
            path, config = self.lay(variant(name), "postern-control.toml")
            self.assertEqual(self.check("postern-control", path), (0, f"{path}: ok\n"), name)
            self.assertIn("scheduled_events", config)
            self.assertEqual("tickets" in config, name != "least")
            self.assertEqual("issue" in config["certificates"]["client"], name != "least")

    def test_postern_takes_its_configuration_with_certificates_in_place(self):
        self.certificates()
        for name in VARIANTS:
            path, config = self.lay(variant(name), "postern.toml")
            if name != "least":
                # The sidecar makes ticket keys; a fresh store of them has none, which does not hold up a start.
                self.assertEqual(config["tls"]["ticket_keys"], f"{self.folder}/certs/tickets")
                path.write_text(re.sub(r"(?m)^ticket_keys.*$", "", path.read_text()))
            self.assertEqual(self.check("postern", path), (0, f"{path}: ok\n"), name)

    def test_both_speak_of_the_same_stores(self):
        for name in VARIANTS:
            ours = variant(name)
            postern, control = tomllib.loads(written(ours, "postern.toml")), tomllib.loads(written(ours, "postern-control.toml"))
            reads = {it["path"] for it in postern["tls"]["certificates"]}
            reads |= {postern["upstream"]["identity"], postern["upstream"]["trust"]} | {
                postern["tls"][it] for it in ("ticket_keys",) if it in postern["tls"]}
            writes = {it["store"] for it in control["certificates"].values()} | {
                control[it]["store"] for it in ("tickets",) if it in control}
            self.assertEqual(reads, writes)

    def test_a_wrong_configuration_is_refused(self):
        path, _ = self.lay(variant("example"), "postern-control.toml")
        path.write_text(path.read_text().replace("start_spread", "start_spraed"))
        code, said = self.check("postern-control", path)
        self.assertEqual(code, 2)
        self.assertIn("start_spraed", said)

    def certificates(self):
        """What the sidecar would publish, as folders of PEM files."""
        ca = self.folder / "ca"
        ca.mkdir()
        self.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
                     "-subj", "/CN=test CA", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
                     "-keyout", ca / "tls.key", "-out", ca / "tls.crt")
        for name, usage, names in (("client", "clientAuth", "postern.example"), ("server-dicom", "serverAuth", "*.dicom.example"),
                                   ("server-fhir", "serverAuth", "*.fhir.example")):
            folder = self.folder / "certs" / name
            folder.mkdir(parents=True)
            extensions = folder / "extensions"
            extensions.write_text(f"basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n"
                                  f"extendedKeyUsage={usage}\nsubjectAltName=DNS:{names}\n")
            self.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
                         "-keyout", folder / "tls.key", "-out", folder / "request")
            self.openssl("x509", "-req", "-in", folder / "request", "-CA", ca / "tls.crt", "-CAkey", ca / "tls.key", "-days", "20",
                         "-extfile", extensions, "-out", folder / "tls.crt")
            shutil.copy(ca / "tls.crt", folder / "ca.crt")
            extensions.unlink()
            (folder / "request").unlink()
        (self.folder / "routes").mkdir()
        trust = self.folder / "certs" / "trust"
        trust.mkdir()
        shutil.copy(ca / "tls.crt", trust / "ca.crt")

    def openssl(self, *arguments):
        code, said = run("openssl", *arguments)
        self.assertEqual(code, 0, said)


class Certificates(unittest.TestCase):
    """What `prepare` asks Key Vault for, told by a stand-in of the Azure CLI."""

    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        (self.folder / "az").write_text(
            '#!/usr/bin/env python3\nimport json, os, sys\n'
            'with open(os.environ["SAID"], "a") as said:\n    said.write(json.dumps(sys.argv[1:]) + "\\n")\n'
            'print("TUlJQ" * 30 if "csr" in sys.argv else "", end="")\n')
        (self.folder / "az").chmod(0o755)

    def prepare(self, *arguments):
        said = self.folder / "said"
        said.write_text("")
        environment = {"PATH": f"{self.folder}:{os.environ['PATH']}", "SAID": str(said)}
        code, out = run(FOLDER / "certificates" / "prepare", *arguments, env=environment)
        calls = [json.loads(it) for it in said.read_text().splitlines()]
        policies = [json.loads(it[it.index("--policy") + 1]) for it in calls if "--policy" in it]
        return code, out, calls, policies

    def test_the_key_of_the_ca_never_leaves_the_vault(self):
        code, out, calls, (policy,) = self.prepare("ca", "v", "internal-ca")
        self.assertEqual((code, len(calls)), (0, 2))
        self.assertRegex(out, r"^-----BEGIN CERTIFICATE REQUEST-----\n[\w\n]{64,}\n-----END CERTIFICATE REQUEST-----\n$")
        self.assertEqual((policy["keyProperties"]["exportable"], policy["keyProperties"]["keyType"]), (False, "EC-HSM"))
        self.assertIn("keyCertSign", policy["x509CertificateProperties"]["keyUsage"])

    def test_server_certificates_are_renewed_by_their_issuer(self):
        code, out, calls, (policy,) = self.prepare("server", "v", "dicom", "DigiCert", "*.dicom.example", "dicom.example")
        self.assertEqual((code, out, len(calls)), (0, "", 1))
        self.assertEqual(policy["issuerParameters"]["name"], "DigiCert")
        properties = policy["x509CertificateProperties"]
        self.assertEqual(properties["subjectAlternativeNames"]["dnsNames"], ["*.dicom.example", "dicom.example"])
        self.assertEqual(policy["lifetimeActions"][0]["action"]["actionType"], "AutoRenew")
        # What the sidecar reads must be exportable.
        self.assertTrue(policy["keyProperties"]["exportable"])
        _, out, calls, (policy,) = self.prepare("server", "v", "dicom", "Unknown", "dicom.example")
        self.assertIn("CERTIFICATE REQUEST", out)
        self.assertEqual(policy["lifetimeActions"][0]["action"]["actionType"], "EmailContacts")

    def test_a_client_certificate_can_be_signed_elsewhere(self):
        _, _, _, (policy,) = self.prepare("client", "v", "postern-client")
        self.assertEqual(policy["x509CertificateProperties"]["ekus"], ["1.3.6.1.5.5.7.3.2"])
        code, _, ((*call,),), _ = self.prepare("merge", "v", "postern-client", "chain.pem")
        self.assertEqual((code, call[:4], call[-3]), (0, ["keyvault", "certificate", "pending", "merge"], "chain.pem"))

    def test_mistakes_are_refused_before_anything_is_asked(self):
        for wrong in (["ca", "v"], ["what", "v", "n"], ["server", "v", "n", "I"], ["server", "v", "n", "I", 'a", "b']):
            code, _, calls, _ = self.prepare(*wrong)
            self.assertNotEqual(code, 0)
            self.assertEqual(calls, [])


class Units(unittest.TestCase):
    def test_systemd_takes_them(self):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for path in ("opt/postern/bin/postern", "opt/postern/bin/postern-control", "bin/kill"):
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_text("#!/bin/sh\n")
                (root / path).chmod(0o755)
            units = root / "etc/systemd/system"
            units.mkdir(parents=True)
            for name in UNITS:
                shutil.copy(SYSTEMD / name, units)
            for name in ("sysinit.target", "basic.target", "network-online.target", "shutdown.target", "system.slice", "-.slice"):
                (units / name).write_text(f"[Unit]\nDescription={name}\nDefaultDependencies=no\n")
            dropin = units / "postern.service.d"
            dropin.mkdir()
            (dropin / "drain.conf").write_text(written(variant("example"), "drain.conf"))
            verify = ("systemd-analyze", "verify", f"--root={root}", "--man=no", "--recursive-errors=no", "--generators=no")
            self.assertEqual(run(*verify, *UNITS), (0, ""))
            # It would have noticed.
            with (units / "postern.service").open("a") as unit:
                unit.write("\n[Service]\nRestrt=always\n")
            self.assertIn("Restrt", run(*verify, "postern.service")[1])

    def test_they_can_do_little(self):
        for name in UNITS:
            code, said = run("systemd-analyze", "security", "--offline=true", "--no-pager",
                             f"--threshold={EXPOSURE_MAX * 10:.0f}", SYSTEMD / name)
            self.assertEqual(code, 0, said)

    def test_their_system_calls_suffice(self):
        for name in UNITS:
            allowed = set()
            for line in re.findall(r"(?m)^SystemCallFilter=(.*)$", (SYSTEMD / name).read_text()):
                named = set().union(*(self.calls(it) for it in line.lstrip("~").split()))
                allowed = allowed - named if line.startswith("~") else allowed | named
            self.assertLessEqual(NEEDED, allowed)
            self.assertFalse(REFUSED & allowed)

    def calls(self, name):
        if not name.startswith("@"):
            return {name}
        code, said = run("systemd-analyze", "syscall-filter", "--no-pager", name)
        self.assertEqual(code, 0, said)
        lines = (it.strip() for it in said.splitlines()[1:])
        return set().union(*(self.calls(it) for it in lines if it and not it.startswith("#")))

    def test_they_do_what_the_programs_mean(self):
        postern, control = (self.settings(it) for it in UNITS)
        for unit in (postern, control):
            self.assertEqual(unit["User"], ["postern"])
            self.assertEqual(unit["CapabilityBoundingSet"], [""])
            self.assertEqual(unit["RestartPreventExitStatus"], ["2"])
        self.assertEqual((postern["Type"], postern["NotifyAccess"]), (["notify"], ["main"]))
        self.assertIn("WatchdogSec", postern)
        check, hup = postern["ExecReload"]
        self.assertIn(" check ", check)
        self.assertIn("kill -HUP $MAINPID", hup)
        # It needs no sidecar, and no token.
        self.assertNotIn("Requires", postern)
        self.assertEqual(postern["IPAddressDeny"], ["169.254.169.254"])
        self.assertNotIn("IPAddressDeny", control)
        # Stores are closed to all but their owner, and Postern may not write them.
        self.assertEqual(control["StateDirectory"], ["postern/certs"])
        self.assertEqual((postern["StateDirectory"], postern["ProtectSystem"]), (["postern/routes"], ["strict"]))
        self.assertGreaterEqual(int(postern["LimitNOFILE"][0]), 200000)

    def settings(self, name):
        found = {}
        for key, value in re.findall(r"(?m)^(\w+)=(.*)$", (SYSTEMD / name).read_text()):
            found.setdefault(key, []).append(value)
        return found


class Installer(unittest.TestCase):
    """`postern-install`, against a metadata service and a storage account of the test's own."""

    TOKEN = "the token"
    PROGRAM = b"#!/bin/sh\necho new\n"
    HOST = "postern0artifacts.blob.core.windows.net"

    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.asked = []
        metadata = self.serve({"/metadata/identity/oauth2/token": json.dumps({"access_token": self.TOKEN}).encode()})
        key, certificate = self.folder / "key", self.folder / "certificate"
        code, said = run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
                         "-subj", f"/CN={self.HOST}", "-addext", f"subjectAltName=DNS:{self.HOST},DNS:elsewhere.example",
                         "-keyout", key, "-out", certificate)
        self.assertEqual(code, 0, said)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate, key)
        blobs = self.serve({"/postern/postern-2": self.PROGRAM}, tls)
        (self.folder / ".curlrc").write_text(
            f'connect-to = "169.254.169.254:80:127.0.0.1:{metadata}"\n'
            f'connect-to = "{self.HOST}:443:127.0.0.1:{blobs}"\nconnect-to = "elsewhere.example:443:127.0.0.1:{blobs}"\n'
            f'cacert = "{certificate}"\n')
        (self.folder / "etc/postern").mkdir(parents=True)
        (self.folder / "etc/postern/identity").write_text("client-id")

    def serve(self, contents, tls=None):
        asked = self.asked

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append((self.path, dict(self.headers)))
                content = contents.get(self.path.split("?")[0])
                self.send_response(200 if content else 404)
                self.end_headers()
                self.wfile.write(content or b"")

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return server.server_address[1]

    def install(self, line):
        (self.folder / "etc/postern/programs").write_text(f"# programs\n\n{line}\n")
        environment = {"PATH": os.environ["PATH"], "CURL_HOME": str(self.folder), "POSTERN_ROOT": str(self.folder)}
        return run(SYSTEMD / "postern-install", env=environment)

    def test_a_program_is_fetched_with_the_identity_and_proven(self):
        sum_ = hashlib.sha256(self.PROGRAM).hexdigest()
        code, said = self.install(f"postern {sum_} https://{self.HOST}/postern/postern-2")
        self.assertEqual(code, 0, said)
        self.assertEqual(run(self.folder / "opt/postern/bin/postern"), (0, "new\n"))
        (token, token_headers), (_, blob_headers) = self.asked
        self.assertIn("client_id=client-id", token)
        self.assertEqual(token_headers["Metadata"], "true")
        self.assertEqual(blob_headers["Authorization"], f"Bearer {self.TOKEN}")
        self.assertNotIn(self.TOKEN, said)
        # Once more, and as a rollback would: nothing is fetched.
        self.assertEqual(self.install(f"postern {sum_} https://{self.HOST}/postern/postern-2")[0], 0)
        self.assertEqual(len(self.asked), 2)

    def test_what_has_another_sum_is_not_installed(self):
        before = self.folder / "opt/postern/bin/postern"
        before.parent.mkdir(parents=True)
        before.write_text("#!/bin/sh\necho old\n")
        before.chmod(0o755)
        code, said = self.install(f"postern {'0' * 64} https://{self.HOST}/postern/postern-2")
        self.assertEqual(code, 2)
        self.assertIn("does not have this SHA-256", said)
        self.assertEqual(run(before), (0, "old\n"))
        self.assertEqual(list((self.folder / "opt/postern/releases").iterdir()), [])

    def test_what_is_not_there_yet_may_be_tried_again(self):
        source = (SYSTEMD / "postern-install").read_text()
        self.assertIn("--retry 5", source)
        script = self.folder / "postern-install"
        script.write_text(source.replace("--retry 5", "--retry 0"))
        script.chmod(0o755)
        (self.folder / "etc/postern/programs").write_text(f"postern {'0' * 64} https://{self.HOST}/postern/missing\n")
        environment = {"PATH": os.environ["PATH"], "CURL_HOME": str(self.folder), "POSTERN_ROOT": str(self.folder)}
        self.assertEqual(run(script, env=environment)[0], 1)

    def test_the_token_goes_to_storage_alone(self):
        sum_ = hashlib.sha256(self.PROGRAM).hexdigest()
        self.assertEqual(self.install(f"postern {sum_} https://elsewhere.example/postern/postern-2")[0], 0)
        self.assertEqual([it for _, headers in self.asked for it in headers if it == "Authorization"], [])

    def test_lines_that_make_no_sense_are_refused(self):
        for line in (f"../x {'0' * 64} https://{self.HOST}/a", f"postern 00 https://{self.HOST}/a",
                     f"postern {'0' * 64} http://{self.HOST}/a", f'postern {"0" * 64} https://{self.HOST}/a"b'):
            self.assertEqual(self.install(line)[0], 2, line)
        self.assertEqual(self.asked, [])


if __name__ == "__main__":
    unittest.main()
