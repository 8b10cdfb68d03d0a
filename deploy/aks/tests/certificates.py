"""Certificates for the checks: one authority, and what it signs."""

import subprocess


def openssl(folder, *arguments):
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def authority(folder):
    """Makes ca.pem and ca.key."""
    _certificate(folder, "ca", "/CN=internal", [], "basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign")


def signed(folder, name, host, usage):
    """Makes NAME.pem and NAME.key for this host, by that authority."""
    _certificate(folder, name, f"/CN={name}", ["-CA", "ca.pem", "-CAkey", "ca.key"],
                 "basicConstraints=critical,CA:FALSE", f"subjectAltName=DNS:{host}", f"extendedKeyUsage={usage}")


def _certificate(folder, name, subject, by, *extensions):
    said = [word for extension in extensions for word in ("-addext", extension)]
    # A configuration of its own: the system's adds extensions that depend on the distribution.
    (folder / "openssl.cnf").write_text("[req]\ndistinguished_name = name\n[name]\n")
    openssl(folder, "req", "-x509", "-config", "openssl.cnf", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-days", "2", *by, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", subject, *said)
