//! Envoy.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Job, Launch};
use crate::check::with_causes;
use crate::compare::CompareError;
use crate::compare::install::version;
use crate::stack::accounts::INGRESS_NAME;
use crate::stack::python::{DICOM, Python};
use crate::stack::write_file;

pub(super) async fn program() -> Result<(PathBuf, String), String> {
    let python = Python::install(DICOM)
        .await
        .map_err(|error| with_causes(&error))?;
    let program = python.envoy().await.map_err(|error| with_causes(&error))?;
    let line = version(&program, &["--version"])?;
    // "PATH  version: COMMIT/NUMBER/…"
    let version = line
        .split_once("version: ")
        .map_or(&*line, |(_, rest)| rest);
    let version = format!("envoy {version}");
    Ok((program, version))
}

pub(super) fn launch(job: Job<'_>, http2: bool) -> Result<Launch, CompareError> {
    let configuration = format!("{:#}\n", bootstrap(job, http2));
    write_file(&job.folder.join("envoy.json"), &configuration)?;
    // Several run on one machine; hot restart would have them share memory.
    let arguments = [
        "--config-path",
        "envoy.json",
        "--concurrency",
        "1",
        "--disable-hot-restart",
        "--log-level",
        "error",
    ];
    Ok(Launch {
        arguments: arguments.map(Into::into).into(),
        configuration,
    })
}

fn bootstrap(job: Job<'_>, http2: bool) -> Value {
    json!({
        "static_resources": {
            "listeners": [{
                "name": "clients",
                "address": address(job.listen),
                "listener_filters": [{
                    "name": "proxy_protocol",
                    "typed_config": {
                        "@type": kind("filters.listener.proxy_protocol.v3.ProxyProtocol"),
                    },
                }],
                "filter_chains": [{
                    "transport_socket": { "name": "tls", "typed_config": server_tls(job) },
                    "filters": [{ "name": "http", "typed_config": http(job) }],
                }],
            }],
            "clusters": [cluster(job, http2)],
        },
    })
}

fn http(job: Job<'_>) -> Value {
    let log = json!([{
        "name": "file",
        "typed_config": {
            "@type": kind("access_loggers.file.v3.FileAccessLog"),
            "path": "access.log",
        },
    }]);
    json!({
        "@type": kind("filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "clients",
        // The address in the PROXY header goes into X-Forwarded-For.
        "use_remote_address": true,
        "stream_idle_timeout": "600s",
        "access_log": if job.access_log { log } else { json!([]) },
        "http_filters": [{
            "name": "router",
            "typed_config": { "@type": kind("filters.http.router.v3.Router") },
        }],
        "route_config": {
            "virtual_hosts": [{
                "name": "all",
                "domains": ["*"],
                "routes": [{
                    "match": { "prefix": "/" },
                    "route": { "cluster": "ingress", "timeout": "0s" },
                }],
            }],
        },
    })
}

fn cluster(job: Job<'_>, http2: bool) -> Value {
    let protocol = if http2 {
        json!({ "http2_protocol_options": {} })
    } else {
        json!({ "http_protocol_options": {} })
    };
    // Its own bounds would be 1024 of each.
    let bounds = json!({
        "max_connections": 65_536,
        "max_pending_requests": 65_536,
        "max_requests": 65_536,
    });
    json!({
        "name": "ingress",
        "type": "STATIC",
        "connect_timeout": "5s",
        "circuit_breakers": { "thresholds": [bounds] },
        "load_assignment": {
            "cluster_name": "ingress",
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address(job.ingress) } }] }],
        },
        "transport_socket": { "name": "tls", "typed_config": client_tls(job, http2) },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": kind("upstreams.http.v3.HttpProtocolOptions"),
                "explicit_http_config": protocol,
            },
        },
    })
}

fn server_tls(job: Job<'_>) -> Value {
    let folder = &job.credentials.private;
    json!({
        "@type": kind("transport_sockets.tls.v3.DownstreamTlsContext"),
        "common_tls_context": {
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_params": versions(),
            "tls_certificates": [{
                "certificate_chain": { "filename": folder.join("tls.crt") },
                "private_key": { "filename": folder.join("tls.key") },
            }],
        },
    })
}

fn client_tls(job: Job<'_>, http2: bool) -> Value {
    let folder = &job.credentials.client;
    json!({
        "@type": kind("transport_sockets.tls.v3.UpstreamTlsContext"),
        "sni": INGRESS_NAME,
        "common_tls_context": {
            "alpn_protocols": [if http2 { "h2" } else { "http/1.1" }],
            "tls_params": versions(),
            "tls_certificates": [{
                "certificate_chain": { "filename": folder.join("tls.crt") },
                "private_key": { "filename": folder.join("tls.key") },
            }],
            "validation_context": {
                "trusted_ca": { "filename": job.credentials.trust.join("ca.crt") },
                "match_typed_subject_alt_names": [{
                    "san_type": "DNS",
                    "matcher": { "exact": INGRESS_NAME },
                }],
            },
        },
    })
}

fn versions() -> Value {
    json!({ "tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3" })
}

/// The name of a message in Envoy's extensions.
fn kind(extension: &str) -> String {
    format!("type.googleapis.com/envoy.extensions.{extension}")
}

fn address(address: std::net::SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip(), "port_value": address.port() } })
}
