"""A Sigstore of one's own, on loopback: who vouches for identities (Fulcio), who keeps what was signed (Rekor), a token
for the machine as a CI job finds it, and the file by which clients trust all of them.

It answers as the public services do, so that the real clients sign and check with it; what it keeps is one entry long.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ISSUER = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
TIMESTAMPS = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
SHA256_ECDSA = bytes([4, 3])
BEGAN = "2020-01-01T00:00:00Z"


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def der(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def number_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    """What a log is called: the digest of its key."""
    return hashlib.sha256(der(key)).digest()


def text64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def signature(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    return key.sign(data, ec.ECDSA(hashes.SHA256()))


def canonical(document: Any) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


@dataclass
class OwnSigstore:
    """The services, and who a machine is that asks them."""

    identity: str
    url: str = ""
    authority: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    certificates: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    """The key of the log of certificates."""
    entries: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    """The key of the log of signatures."""

    def __post_init__(self) -> None:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "own sigstore")])
        made = self._certificate(name, name, self.authority.public_key(), timedelta(days=1))
        made = made.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        made = made.add_extension(_usage(signs_certificates=True), critical=True)
        made = made.add_extension(
            x509.SubjectKeyIdentifier.from_public_key(self.authority.public_key()), critical=False
        )
        self.root = made.sign(self.authority, hashes.SHA256())

    def settings(self, identity: str | None = None) -> dict[str, str]:
        """The environment of a job on this machine, as CI sets it."""
        return {
            "GITHUB_ACTIONS": "true",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "anything",
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"{self.url}/token?identity={identity or self.identity}",
        }

    def write_trust(self, path: Path) -> Path:
        """The file that clients are given."""

        def log(key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
            kind = {"keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": {"start": BEGAN}}
            public = {"rawBytes": text64(der(key)), **kind}
            named = {"logId": {"keyId": text64(number_of(key))}, "hashAlgorithm": "SHA2_256"}
            return {"baseUrl": self.url, "publicKey": public, **named}

        service = {"url": self.url, "majorApiVersion": 1, "validFor": {"start": BEGAN}, "operator": "own"}
        root = text64(self.root.public_bytes(serialization.Encoding.DER))
        authority = {
            "subject": {"organization": "own", "commonName": "own sigstore"},
            "uri": self.url,
            "certChain": {"certificates": [{"rawBytes": root}]},
            "validFor": {"start": BEGAN},
        }
        trusted = {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [log(self.entries)],
            "certificateAuthorities": [authority],
            "ctlogs": [log(self.certificates)],
            "timestampAuthorities": [],
        }
        signing = {
            "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
            **{name: [service] for name in ("caUrls", "oidcUrls", "rekorTlogUrls")},
            "tsaUrls": [],
            "rekorTlogConfig": {"selector": "ANY"},
            "tsaConfig": {"selector": "ANY"},
        }
        kind = "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json"
        path.write_text(json.dumps({"mediaType": kind, "trustedRoot": trusted, "signingConfig": signing}))
        return path

    def answer(self, path: str, body: Any, bearer: str) -> Any:
        """What one of the services says; None to what it does not know."""
        if path.startswith("/token"):
            (identity,) = parse_qs(urlsplit(path).query)["identity"]
            return {"value": self._token(identity)}
        if path.endswith("/.well-known/openid-configuration"):
            return {"authorization_endpoint": f"{self.url}/auth", "token_endpoint": f"{self.url}/token"}
        if path.endswith("/signingCert"):
            request = x509.load_pem_x509_csr(base64.b64decode(body["certificateSigningRequest"]))
            chain = [self._vouched(request.public_key(), bearer), self.root]
            texts = [each.public_bytes(serialization.Encoding.PEM).decode() for each in chain]
            return {"signedCertificateEmbeddedSct": {"chain": {"certificates": texts}}}
        if path.endswith("/log/entries"):
            return {"00": self._entry(body["spec"]["proposedContent"])}
        return None

    def _token(self, identity: str) -> str:
        now = int(time.time())
        claims = {"iss": self.url, "sub": identity, "aud": "sigstore", "iat": now, "exp": now + 600}
        parts = [canonical({"alg": "ES256", "typ": "JWT"}), canonical(claims), b"unsigned"]
        return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)

    def _vouched(self, key: Any, bearer: str) -> x509.Certificate:
        """A certificate for whoever a token names, with the word of the log that it is in there."""
        claims = json.loads(base64.urlsafe_b64decode(bearer.split(".")[1] + "==="))
        made = self._certificate(self.root.subject, x509.Name([]), key, timedelta(minutes=10))
        who = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(claims["sub"])])
        made = made.add_extension(who, critical=True).add_extension(_usage(), critical=True)
        made = made.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
        above = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.authority.public_key())
        made = made.add_extension(above, critical=False)
        made = made.add_extension(x509.UnrecognizedExtension(ISSUER, claims["iss"].encode()), critical=False)
        unlisted = made.sign(self.authority, hashes.SHA256())
        listed = x509.UnrecognizedExtension(TIMESTAMPS, self._timestamp(unlisted.tbs_certificate_bytes))
        return made.add_extension(listed, critical=False).sign(self.authority, hashes.SHA256())

    def _timestamp(self, certificate: bytes) -> bytes:
        """RFC 6962: that a certificate was seen by the log, as it stands in the certificate."""
        at = int(time.time() * 1000)
        body = struct.pack("!I", len(certificate))[1:] + certificate
        signed = struct.pack("!BBQH", 0, 0, at, 1) + number_of(self.authority) + body + struct.pack("!H", 0)
        word = signature(self.certificates, signed)
        one = struct.pack("!B32sQH", 0, number_of(self.certificates), at, 0) + SHA256_ECDSA
        one += struct.pack("!H", len(word)) + word
        listed = struct.pack("!HH", len(one) + 2, len(one)) + one
        return bytes([4, len(listed)]) + listed if len(listed) < 128 else bytes([4, 0x81, len(listed)]) + listed

    def _entry(self, proposed: Any) -> Any:
        envelope = json.loads(proposed["envelope"])
        signed = {"signature": envelope["signatures"][0]["sig"], "verifier": proposed["verifiers"][0]}
        spec = {
            "envelopeHash": _digest(proposed["envelope"].encode()),
            "payloadHash": _digest(base64.b64decode(envelope["payload"])),
            "signatures": [signed],
        }
        body = canonical({"apiVersion": "0.0.1", "kind": "dsse", "spec": spec})
        leaf = hashlib.sha256(b"\0" + body).digest()
        number = number_of(self.entries)
        said = {"body": text64(body), "integratedTime": int(time.time()), "logID": number.hex(), "logIndex": 0}
        note = f"own\n1\n{text64(leaf)}\n"
        word = text64(number[:4] + signature(self.entries, note.encode()))
        proof = {"checkpoint": f"{note}\n\u2014 own {word}\n", "hashes": [], "logIndex": 0, "treeSize": 1}
        promise = text64(signature(self.entries, canonical(said)))
        verification = {"signedEntryTimestamp": promise, "inclusionProof": {**proof, "rootHash": leaf.hex()}}
        return {**said, "verification": verification}

    def _certificate(self, issuer: x509.Name, subject: x509.Name, key: Any, lasting: timedelta) -> Any:
        now = datetime.now(UTC)
        made = x509.CertificateBuilder().issuer_name(issuer).subject_name(subject).public_key(key)
        made = made.serial_number(x509.random_serial_number())
        return made.not_valid_before(now - timedelta(minutes=1)).not_valid_after(now + lasting)


@contextmanager
def running(identity: str) -> Iterator[OwnSigstore]:
    """The services, for a while."""
    own = OwnSigstore(identity)

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(None)

        def do_POST(self) -> None:
            self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

        def _answer(self, body: Any) -> None:
            found = own.answer(self.path, body, self.headers.get("Authorization", "").removeprefix("Bearer "))
            data = json.dumps(found).encode()
            self.send_response(404 if found is None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        own.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield own
        finally:
            server.shutdown()
            thread.join()


def _digest(data: bytes) -> dict[str, str]:
    return {"algorithm": "sha256", "value": hashlib.sha256(data).hexdigest()}


def _usage(*, signs_certificates: bool = False) -> x509.KeyUsage:
    others = dict.fromkeys(
        (
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    signs = {"key_cert_sign": signs_certificates, "crl_sign": signs_certificates}
    return x509.KeyUsage(digital_signature=not signs_certificates, **signs, **others)
