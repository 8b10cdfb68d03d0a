//! The decision table as data.

use std::borrow::Cow;

use rustls::AlertDescription::{AccessDenied, UnrecognisedName};

use super::act::{Act, Got};
use super::malformed;
use crate::proxy_v2::Header;
use crate::stack::accounts::{
    HOST_A, HOST_A_ARCHIVE, HOST_B, HOST_KEY, HOST_LIMITED, HOST_NOBODY, HOST_UNCOVERED, LINK_A,
    LINK_DISCONNECTED, LINK_KEY, LINK_LIMITED, LINK_PENDING, LINK_REJECTED, LINK_UNKNOWN,
};
use crate::stack::client::Protocol::{Http1, Http2};
use crate::stack::postern::{TRUSTED_SOURCE, UNTRUSTED_SOURCE};

/// The path of requests that the ingress may not see.
pub(super) const REFUSED: &str = "/refused";

/// One row.
pub(super) struct Row {
    pub(super) claim: &'static str,
    pub(super) act: Act,
    pub(super) expected: Got,
    /// The refusal's word in log and metrics.
    pub(super) word: &'static str,
    /// How many requests the ingress may see of it.
    pub(super) ingress_sees: usize,
}

/// Where the Postern of some rows has its routes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    File,
    /// The account-routing service, which was there when it started.
    KilledService,
}

/// Rows that share one stack, with the environment of its Postern.
pub(super) type Group = (
    &'static str,
    Source,
    &'static [(&'static str, &'static str)],
    Vec<Row>,
);

const SHORT_WAITS: &[(&str, &str)] = &[
    ("POSTERN_PROXY_HEADER__TIMEOUT", "1s"),
    ("POSTERN_UPSTREAM__RESPONSE_TIMEOUT", "2s"),
];

pub(super) fn groups() -> Vec<Group> {
    let mut usual = connections();
    usual.extend(malformed::rows());
    usual.extend(links());
    usual.extend(requests());
    usual.extend(ingress());
    let overloaded = Row {
        claim: "a request over the process's limit is put off",
        act: Act::Overload,
        expected: Got::Status(503),
        word: "overloaded",
        ingress_sees: 1,
    };
    let crowded = Row {
        claim: "a connection over the process's limit is closed",
        act: Act::Crowd,
        expected: Got::Closed,
        word: "connection_limit",
        ingress_sees: 1,
    };
    let draining = row(
        "a connection that was accepted just before the end is told to come back elsewhere",
        Act::Drain,
        Got::Status(503),
        "draining",
    );
    let link = |claim, link_id, word| Row {
        expected: Got::Alert(AccessDenied),
        ..row(
            claim,
            Act::Handshake(Header::link(link_id), Some(HOST_A)),
            Got::Closed,
            word,
        )
    };
    let alerts = vec![
        link(
            "refuse = alert: a link in no account gets an alert",
            LINK_UNKNOWN,
            "link_unknown",
        ),
        link(
            "refuse = alert: a pending link gets an alert",
            LINK_PENDING,
            "link_not_approved",
        ),
    ];
    let unanswered = row(
        "a lookup that fails with nothing known",
        Act::Request {
            link_id: LINK_UNKNOWN,
            sni: HOST_A,
            host: HOST_A,
            protocol: Http2,
            path: REFUSED,
        },
        Got::Status(503),
        "lookup_failed",
    );
    vec![
        ("usual", Source::File, SHORT_WAITS, usual),
        (
            "alerts",
            Source::File,
            &[("POSTERN_TLS__REFUSE", "alert")],
            alerts,
        ),
        ("unanswered", Source::KilledService, &[], vec![unanswered]),
        (
            "overload",
            Source::File,
            &[("POSTERN_HTTP__REQUESTS_MAX", "1")],
            vec![overloaded],
        ),
        (
            "crowd",
            Source::File,
            &[("POSTERN_DATA__CONNECTIONS_MAX", "1")],
            vec![crowded],
        ),
        (
            "drain",
            Source::File,
            &[
                ("POSTERN_DRAIN__NOTICE", "1s"),
                ("POSTERN_DRAIN__IDLE_GRACE", "0s"),
            ],
            vec![draining],
        ),
    ]
}

pub(super) fn row(claim: &'static str, act: Act, expected: Got, word: &'static str) -> Row {
    Row {
        claim,
        act,
        expected,
        word,
        ingress_sees: 0,
    }
}

fn connections() -> Vec<Row> {
    let closed = |claim, act, word| row(claim, act, Got::Closed, word);
    let from = |source, header| Act::Bytes {
        source,
        header,
        finish: false,
    };
    let twice = [Header::link(LINK_A).bytes(), Header::link(LINK_A).bytes()].concat();
    let half = || Header::Raw(Header::link(LINK_A).bytes().slice(..20));
    let no_header =
        Header::Raw(b"GET / HTTP/1.1\r\nHost: hospital-a.dicom.example\r\n\r\n"[..].into());
    let trusted = TRUSTED_SOURCE;
    vec![
        closed(
            "a source that is not trusted is closed",
            from(UNTRUSTED_SOURCE, Header::link(LINK_A)),
            "untrusted_source",
        ),
        closed(
            "no PROXY header",
            from(trusted, no_header),
            "proxy_header_missing",
        ),
        closed(
            "half a PROXY header, then silence",
            from(trusted, half()),
            "proxy_header_late",
        ),
        closed(
            "half a PROXY header, then the end",
            Act::Bytes {
                source: trusted,
                header: half(),
                finish: true,
            },
            "proxy_header_truncated",
        ),
        closed(
            "two PROXY headers",
            from(trusted, Header::Raw(twice.into())),
            "proxy_header_duplicate",
        ),
        closed(
            "a PROXY header without a link id",
            from(trusted, Header::without_link()),
            "link_id_missing",
        ),
        row(
            "a ClientHello without a server name",
            Act::Handshake(Header::link(LINK_A), None),
            Got::Alert(UnrecognisedName),
            "sni_missing",
        ),
        row(
            "a server name without a certificate",
            Act::Handshake(Header::link(LINK_A), Some(HOST_UNCOVERED)),
            Got::Alert(UnrecognisedName),
            "sni_unknown",
        ),
    ]
}

fn links() -> Vec<Row> {
    let refused = |claim, link_id, sni, protocol, word| {
        let act = Act::Request {
            link_id,
            sni,
            host: sni,
            protocol,
            path: REFUSED,
        };
        row(claim, act, Got::Status(403), word)
    };
    vec![
        refused(
            "a link in no account, HTTP/1.1",
            LINK_UNKNOWN,
            HOST_A,
            Http1,
            "link_unknown",
        ),
        refused(
            "a link in no account, HTTP/2",
            LINK_UNKNOWN,
            HOST_A,
            Http2,
            "link_unknown",
        ),
        refused(
            "another account's link",
            LINK_A,
            HOST_B,
            Http1,
            "link_unknown",
        ),
        refused(
            "a host in no account",
            LINK_A,
            HOST_NOBODY,
            Http2,
            "link_unknown",
        ),
        refused(
            "a pending link",
            LINK_PENDING,
            HOST_A,
            Http1,
            "link_not_approved",
        ),
        refused(
            "a rejected link",
            LINK_REJECTED,
            HOST_A,
            Http2,
            "link_not_approved",
        ),
        refused(
            "a disconnected link",
            LINK_DISCONNECTED,
            HOST_A,
            Http1,
            "link_not_approved",
        ),
    ]
}

fn requests() -> Vec<Row> {
    let host = |claim, host, protocol, status, word| {
        let act = Act::Request {
            link_id: LINK_A,
            sni: HOST_A,
            host,
            protocol,
            path: REFUSED,
        };
        row(claim, act, Got::Status(status), word)
    };
    let raw = |claim, request| {
        row(
            claim,
            Act::Http1(Cow::Borrowed(request)),
            Got::Status(400),
            "bad_request",
        )
    };
    let key = Act::Request {
        link_id: LINK_KEY,
        sni: HOST_KEY,
        host: HOST_KEY,
        protocol: Http2,
        path: REFUSED,
    };
    let limited = Act::Burst {
        link_id: LINK_LIMITED,
        host: HOST_LIMITED,
    };
    vec![
        host(
            "Host of the same link, HTTP/1.1",
            HOST_A_ARCHIVE,
            Http1,
            421,
            "misdirected",
        ),
        host(
            "Host of the same link, HTTP/2",
            HOST_A_ARCHIVE,
            Http2,
            421,
            "misdirected",
        ),
        host(
            "Host of another account, HTTP/1.1",
            HOST_B,
            Http1,
            403,
            "host_not_permitted",
        ),
        host(
            "Host of another account, HTTP/2",
            HOST_B,
            Http2,
            403,
            "host_not_permitted",
        ),
        host(
            "Host in no account",
            HOST_NOBODY,
            Http1,
            403,
            "host_not_permitted",
        ),
        raw("no Host", "GET /refused HTTP/1.1\r\n\r\n"),
        raw(
            "two Hosts",
            "GET /refused HTTP/1.1\r\nHost: hospital-a.dicom.example\r\nHost: hospital-b.dicom.example\r\n\r\n",
        ),
        raw(
            "an invalid Host",
            "GET /refused HTTP/1.1\r\nHost: a b\r\n\r\n",
        ),
        raw(
            "Content-Length and Transfer-Encoding",
            "POST /refused HTTP/1.1\r\nHost: hospital-a.dicom.example\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        row(
            "a customer-managed key out of reach",
            key,
            Got::Status(403),
            "customer_key",
        ),
        Row {
            ingress_sees: usize::MAX,
            ..row(
                "an account over its rate",
                limited,
                Got::Status(429),
                "rate_limited",
            )
        },
    ]
}

/// These end the ingress, so they come last.
fn ingress() -> Vec<Row> {
    let seen = |claim, act, status, word| Row {
        ingress_sees: 1,
        ..row(claim, act, Got::Status(status), word)
    };
    let slow = Act::Request {
        link_id: LINK_A,
        sni: HOST_A,
        host: HOST_A,
        protocol: Http1,
        path: "/slow/4000",
    };
    let again = Act::Request {
        link_id: LINK_A,
        sni: HOST_A,
        host: HOST_A,
        protocol: Http2,
        path: REFUSED,
    };
    vec![
        seen(
            "an ingress that does not answer in time",
            slow,
            504,
            "upstream_timeout",
        ),
        seen(
            "an ingress that breaks off before its answer",
            Act::BreakIngress,
            502,
            "upstream_broke",
        ),
        row(
            "an ingress that is not there",
            again,
            Got::Status(502),
            "upstream_connect",
        ),
    ]
}
