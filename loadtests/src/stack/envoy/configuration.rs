//! The bootstrap and the secrets of Envoy, as the JSON it reads.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::EnvoyOptions;

/// Name of the secret with certificate and key.
pub(super) const IDENTITY: &str = "identity";
/// Name of the secret with the CA that client certificates must be of.
pub(super) const TRUST: &str = "trust";

/// Names in the JSON log and what Envoy puts there; the same names as nginx has in its log.
const SEEN: [(&str, &str); 22] = [
    ("method", "%REQ(:METHOD)%"),
    ("uri", "%REQ(:PATH)%"),
    ("host", "%REQ(:AUTHORITY)%"),
    ("protocol", "%PROTOCOL%"),
    ("status", "%RESPONSE_CODE%"),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
    ("x_forwarded_proto", "%REQ(X-FORWARDED-PROTO)%"),
    ("x_forwarded_host", "%REQ(X-FORWARDED-HOST)%"),
    ("x_ms_private_link_id", "%REQ(X-MS-PRIVATE-LINK-ID)%"),
    ("x_request_id", "%REQ(X-REQUEST-ID)%"),
    ("traceparent", "%REQ(TRACEPARENT)%"),
    ("x_real_ip", "%REQ(X-REAL-IP)%"),
    ("x_client_cert", "%REQ(X-CLIENT-CERT)%"),
    ("forwarded", "%REQ(FORWARDED)%"),
    ("x_postern_foo", "%REQ(X-POSTERN-FOO)%"),
    ("client_dn", "%DOWNSTREAM_PEER_SUBJECT%"),
    ("tls", "%DOWNSTREAM_TLS_VERSION%"),
    ("server_name", "%REQUESTED_SERVER_NAME%"),
    ("connection", "%CONNECTION_ID%"),
    ("request_bytes", "%BYTES_RECEIVED%"),
    // Why Envoy ended an exchange, in its own words.
    ("flags", "%RESPONSE_FLAGS%"),
    ("details", "%RESPONSE_CODE_DETAILS%"),
];

// Answers that Envoy's configuration cannot express. Each runs on its own route only, so that no other
// request pays for a script.
const LUA_NONCE: &str = r#"
function envoy_on_request(handle)
  local nonce = handle:headers():get(":path"):match("^/nonce/([%w-]+)$")
  if nonce then handle:respond({[":status"] = "200", ["content-type"] = "text/plain"}, nonce) end
end
"#;
const LUA_BYTES: &str = r#"
function envoy_on_request(handle)
  local length = tonumber(handle:headers():get(":path"):match("^/bytes/(%d+)$"))
  if not length or length > 16777216 then return end
  local period = {}
  for byte = 0, 250 do period[byte + 1] = string.char(byte) end
  local body = table.concat(period):rep(math.ceil(length / 251)):sub(1, length)
  handle:respond({[":status"] = "200", ["content-type"] = "application/octet-stream"}, body)
end
"#;

/// Addresses and files of one Envoy.
pub(super) struct Places<'a> {
    pub(super) address: SocketAddr,
    pub(super) admin: SocketAddr,
    pub(super) secrets: &'a Path,
    pub(super) seen: &'a Path,
}

/// The whole configuration.
pub(super) fn bootstrap(places: &Places<'_>, options: &EnvoyOptions) -> Value {
    let clusters = options.backend.map_or_else(Vec::new, |backend| {
        let version_1 = json!({ "http_protocol_options": {} });
        let version_2 = json!({ "http2_protocol_options": {} });
        vec![
            cluster("backend", backend, &version_1),
            cluster("backend-grpc", backend, &version_2),
        ]
    });
    json!({
        "node": { "id": "ingress", "cluster": "stack" },
        "admin": { "address": socket_address(places.admin) },
        "static_resources": {
            "listeners": [listener(places, options)],
            "clusters": clusters,
        },
    })
}

/// The file of a secret; Envoy watches it.
pub(super) fn secret_file(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.json"))
}

/// The secret with the certificate chain and its key, both PEM.
pub(super) fn identity(chain: &str, key: &str) -> Value {
    secret(&json!({
        "@type": kind("transport_sockets.tls.v3.Secret"),
        "name": IDENTITY,
        "tls_certificate": {
            "certificate_chain": { "inline_string": chain },
            "private_key": { "inline_string": key },
        },
    }))
}

/// The secret with the certificates (PEM) of those who may issue client certificates.
pub(super) fn trust(authorities: &str) -> Value {
    secret(&json!({
        "@type": kind("transport_sockets.tls.v3.Secret"),
        "name": TRUST,
        "validation_context": { "trusted_ca": { "inline_string": authorities } },
    }))
}

fn secret(resource: &Value) -> Value {
    json!({ "resources": [resource] })
}

fn listener(places: &Places<'_>, options: &EnvoyOptions) -> Value {
    json!({
        "name": "ingress",
        "address": socket_address(places.address),
        "listener_filters": [filter("tls_inspector", "filters.listener.tls_inspector.v3.TlsInspector")],
        "filter_chains": [{
            "filter_chain_match": { "server_names": [options.name] },
            "transport_socket": {
                "name": "tls",
                "typed_config": tls(places.secrets, options.http2),
            },
            "filters": [{ "name": "http", "typed_config": http(places.seen, options) }],
        }],
    })
}

fn tls(secrets: &Path, http2: bool) -> Value {
    let watched = |name: &str| {
        json!({
            "name": name,
            "sds_config": {
                "path_config_source": { "path": secret_file(secrets, name) },
                "resource_api_version": "V3",
            },
        })
    };
    json!({
        "@type": kind("transport_sockets.tls.v3.DownstreamTlsContext"),
        "require_client_certificate": true,
        "common_tls_context": {
            "alpn_protocols": if http2 { vec!["h2", "http/1.1"] } else { vec!["http/1.1"] },
            "tls_params": {
                "tls_minimum_protocol_version": "TLSv1_2",
                "tls_maximum_protocol_version": "TLSv1_3",
            },
            "tls_certificate_sds_secret_configs": [watched(IDENTITY)],
            "validation_context_sds_secret_config": watched(TRUST),
        },
    })
}

fn http(seen: &Path, options: &EnvoyOptions) -> Value {
    let mut connection = Map::new();
    if let Some(requests) = options.keepalive_requests {
        connection.insert("max_requests_per_connection".to_owned(), requests.into());
    }
    json!({
        "@type": kind("filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "ingress",
        "common_http_protocol_options": connection,
        "http2_protocol_options": { "allow_connect": true },
        "upgrade_configs": [{ "upgrade_type": "websocket" }],
        // What we sent is what is logged and what the back end gets.
        "generate_request_id": false,
        "preserve_external_request_id": true,
        // A transfer or a silent WebSocket may take its time: what is under test sets the limits.
        "stream_idle_timeout": "0s",
        "access_log": [{
            "name": "file",
            "typed_config": {
                "@type": kind("access_loggers.file.v3.FileAccessLog"),
                "path": seen,
                "log_format": {
                    "json_format": seen_fields(),
                    "omit_empty_values": true,
                },
            },
        }],
        "http_filters": [
            filter("lua", "filters.http.lua.v3.Lua"),
            filter("router", "filters.http.router.v3.Router"),
        ],
        "route_config": {
            "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": routes(options) }],
        },
    })
}

/// Every value as text, as nginx logs it. A value made of one operator would be a number or left out; with a
/// second one, which is always empty, it is a text, if need be an empty one.
fn seen_fields() -> Map<String, Value> {
    let text = |operator: &str| Value::from(format!("{operator}%REQ(X-NEVER-SENT)%"));
    SEEN.into_iter()
        .map(|(name, operator)| (name.to_owned(), text(operator)))
        .collect()
}

fn routes(options: &EnvoyOptions) -> Vec<Value> {
    let hello = json!({ "ingress": "envoy" }).to_string();
    let scripted = |prefix: &str, source: &str| {
        json!({
            "match": { "prefix": prefix },
            "direct_response": { "status": 404 },
            "typed_per_filter_config": {
                "lua": {
                    "@type": kind("filters.http.lua.v3.LuaPerRoute"),
                    "source_code": { "inline_string": source },
                },
            },
        })
    };
    let mut routes = vec![
        json!({
            "match": { "path": "/" },
            "direct_response": { "status": 200, "body": { "inline_string": hello } },
            "response_headers_to_add": [{
                "header": { "key": "content-type", "value": "application/json" },
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }],
        }),
        scripted("/nonce/", LUA_NONCE),
        scripted("/bytes/", LUA_BYTES),
    ];
    if options.backend.is_some() {
        let to = |cluster: &str| json!({ "cluster": cluster, "timeout": "0s" });
        routes.extend([
            json!({ "match": { "prefix": "/grpc/" }, "route": to("backend-grpc") }),
            // Without `connect_matcher` a prefix also matches an extended CONNECT, which has a path.
            json!({ "match": { "prefix": "/" }, "route": to("backend") }),
        ]);
    } else {
        routes.push(json!({ "match": { "prefix": "/" }, "direct_response": { "status": 404 } }));
    }
    routes
}

/// A filter without options.
fn filter(name: &str, extension: &str) -> Value {
    json!({ "name": name, "typed_config": { "@type": kind(extension) } })
}

/// The name of a message in Envoy's extensions.
fn kind(extension: &str) -> String {
    format!("type.googleapis.com/envoy.extensions.{extension}")
}

fn cluster(name: &str, address: SocketAddr, protocol: &Value) -> Value {
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{
                "lb_endpoints": [{ "endpoint": { "address": socket_address(address) } }],
            }],
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": kind("upstreams.http.v3.HttpProtocolOptions"),
                "explicit_http_config": protocol,
            },
        },
    })
}

fn socket_address(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip(), "port_value": address.port() } })
}
