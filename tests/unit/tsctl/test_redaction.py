"""What is taken out of a text, and what stays because it tells what is wrong."""

from __future__ import annotations

import json
import time
import tomllib

import pytest

from tsctl.redaction import Redaction, redaction_of

PLAIN = Redaction()
KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIEabcdef\nmnopqr==\n-----END RSA PRIVATE KEY-----"
KEY_FILE = {
    "management": {"key": "aXk0M2Zp", "expiration time": "2026-11-22T15:00:00.000000Z"},
    "inference": {"key": "Zm9vYmFy", "expiration time": "2026-11-22T15:00:00.000000Z"},
    "API": {"key": "c2VjcmV0"},
}


@pytest.mark.parametrize(
    "text",
    [
        "keystore_password = 'S3CRET'",
        'keystore_password = "S3CRET and more S3CRET"',
        "password: S3CRET",
        "PASSWORD=S3CRET",
        "db_passwd=S3CRET;",
        "GET /predictions/x?token=S3CRET&n=1",
        '{"api_key": "S3CRET"}',
        r'{"event": "{\"token\": \"S3CRET S3CRET\"}"}',
        "{'accessToken': 'S3CRET'}",
        "apiKey=S3CRET",
        "client-secret: S3CRET",
        "Authorization: Bearer S3CRET",
        "authorization: Basic S3CRET",
        "{'Authorization': 'S3CRET'}",
        "Cookie: S3CRET",
        "Cookie: theme=dark; session=S3CRET",
        "Authorization: Token S3CRET",
        '{"authorization": "AWS4-HMAC-SHA256 SignedHeaders=host, Signature=S3CRET"}',
        r'{"event": "{\"cookie\": \"a=b; c=S3CRET\"}"}',
        "api_tokens = ['S3CRET', 'S3CRET']",
        "sent bearer S3CRET to it",
        "https://me:S3CRET@example.org/x.mar",
        "https://example.org/x.mar?X-Amz-Signature=S3CRET",
        "https://example.org/x#S3CRET",
        "s3://S3CRET@bucket/x",
        "postgres://me:pass@S3CRET@host/x",
        "eyJhbGciOiJIUzI1.eyJzdWIiOiIx.S3CRET",
        "hf_abcdefghijklmnopS3CRET",
        "Environment=ANY=S3CRET OTHER=S3CRET",
        "Environment=A=1 \\\n  B=S3CRET \\\n  C=S3CRET",
        "SetCredential=x:S3CRET S3CRET",
        f"x\n{KEY.replace('MIIE', 'S3CRET')}\ny",
        "-----BEGIN PRIVATE KEY-----\nS3CRET",
        "S3CRET\n-----END EC PRIVATE KEY-----\ntail",
    ],
)
def test_secrets_are_taken_out(text: str) -> None:
    redacted = PLAIN.apply(text)
    assert "S3CRET" not in redacted
    assert "[removed]" in redacted


def test_the_keys_of_torchserves_file_are_taken_out_and_the_rest_stays() -> None:
    found = json.loads(PLAIN.apply(json.dumps(KEY_FILE, indent=2)))
    assert [part["key"] for part in found.values()] == ["[removed]"] * 3
    assert found["API"].keys() == {"key"}
    assert found["inference"]["expiration time"] == "2026-11-22T15:00:00.000000Z"


def test_json_and_toml_stay_readable() -> None:
    document = {"token": "abc", "max_tokens": 12, "x": {"secret": [1, "k"]}, "key": None}
    found = json.loads(PLAIN.apply(json.dumps(document)))
    removed = dict.fromkeys(("token", "max_tokens"), "[removed]")
    assert found == removed | {"x": {"secret": "[removed]"}, "key": None}
    settings = 'tokens = true\nkeystore_password = "changeit"\nkey_file = "/run/key_file.json"\n'
    assert tomllib.loads(PLAIN.apply(settings)) == {
        "tokens": True,
        "keystore_password": "[removed]",
        "key_file": "[removed]",
    }


@pytest.mark.parametrize(
    "text",
    [
        "KeyError: 'weights'",
        "the tokenizer: bert",
        "keep_alive_s = 75.0",
        "listening at 127.0.0.1:8080, [::1]:8081 and 0.0.0.0:9",
        "http://127.0.0.1:8080/predictions/digits",
        "2026-11-22T14:25:59.123456+0000 tsd[99]: model digits: loading -> ready",
        "std::vector and at 12:34:56",
        "torch 2.13.0, driver 580.65.06",
        'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"',
        "/var/lib/tsd/models/digits",
        "sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    names = redaction_of(["debian", "tsd", "x"], ["ubuntu", "al"])
    assert names.apply(text) == text


def test_addresses_of_others_are_taken_out() -> None:
    text = "10.1.2.3:4 -> 192.168.0.9, 2001:db8::7, fe80::1%eth0"
    assert PLAIN.apply(text) == "[address]:4 -> [address], [address], [address]%eth0"


def test_names_of_hosts_and_people_are_replaced() -> None:
    names = redaction_of(
        ["gpu7.lab.example.org", "gpu7.lab.example.org\n"], ["alice", "alice-b", ""]
    )
    text = "gpu7 gpu7.lab.example.org gpu70 alice alice-b malice /home/alice/m /home/bob/x"
    assert names.apply(text) == (
        "[host] [host] gpu70 [user] [user] malice /home/[user]/m /home/[user]/x"
    )


@pytest.mark.parametrize(
    "unit",
    ["key", "a.", "a:", "1.", "http://", "x" * 50, "\\", '"', "-----BEGIN ", "   \n", "key=["],
)
def test_long_texts_take_no_longer_than_their_length(unit: str) -> None:
    def seconds(length: int) -> float:
        text = unit * (length // len(unit))
        began_at = time.process_time()
        PLAIN.apply(text)
        return time.process_time() - began_at

    assert seconds(400_000) < 20 * max(seconds(40_000), 0.005)
