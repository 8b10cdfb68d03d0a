use super::*;

pub(super) const WHOLE: &str = r#"
[data]
trusted_sources = ["10.0.0.0/24"]

[tls]
certificates = ["certs/private", "/etc/ssl/other.pem"]

[routes]
file = "routes.toml"

[upstream]
identity = "certs/client"
trust = "certs/trust"

[upstream.clusters.my-dicom]
name = "z1-weu-aks.internal.example"
endpoints = ["10.1.0.5:443"]
"#;

fn load_with(text: &str, env: &[(&str, &str)]) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("postern.toml");
    std::fs::write(&path, text).unwrap();
    let env = env
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let shown = folder.path().display().to_string();
    Config::load(&path, env).map_err(|error| error.to_string().replace(&format!("{shown}/"), ""))
}

pub(super) fn load(text: &str) -> Result<Config, String> {
    load_with(text, &[])
}

pub(super) fn refused(text: &str) -> String {
    load(text).unwrap_err()
}

#[test]
fn a_short_file_is_enough() {
    let config = load(WHOLE).unwrap();
    assert_eq!(config.mode, Mode::Enforce);
    assert_eq!(config.data.listen.port(), 8443);
    assert_eq!(
        config.upstream.clusters["my-dicom"].protocol,
        UpstreamProtocol::Auto
    );
}

#[test]
fn relative_paths_are_relative_to_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("postern.toml");
    std::fs::write(&path, WHOLE).unwrap();
    let config = Config::load(&path, std::iter::empty()).unwrap();
    assert_eq!(
        config.tls.certificates[0].path,
        folder.path().join("certs/private")
    );
    assert_eq!(
        config.tls.certificates[1].path,
        Path::new("/etc/ssl/other.pem")
    );
    assert_eq!(config.routes.file, Some(folder.path().join("routes.toml")));
    assert_eq!(config.upstream.identity, folder.path().join("certs/client"));
    assert_eq!(config.access_log.output, AccessLogOutput::Stdout);
}

#[test]
fn the_printed_defaults_read_back_as_the_defaults() {
    let read: Config = toml::from_str(&Config::print_defaults()).unwrap();
    assert_eq!(read, Config::default());
}

#[test]
fn the_examples_of_the_printed_defaults_are_a_configuration_once_uncommented() {
    let text: String = Config::print_defaults()
        .lines()
        .map(|line| {
            let bare = line.trim_start_matches("# ");
            let key = bare.split(" = ").next().unwrap_or_default();
            let is_key =
                bare.contains(" = ") && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            let is_section = bare.starts_with('[') && bare.ends_with(']');
            if is_key || is_section {
                format!("{bare}\n")
            } else {
                String::new()
            }
        })
        .collect();
    let text = text.replace("forward_cluster = \"dicom\"\n", "");
    // Routes come from one of both.
    let from_service = text.replace("file = \"routes.toml\"\n", "");
    assert_ne!(text, from_service);
    load(&from_service).unwrap_or_else(|error| panic!("{error}\n{from_service}"));
}

#[test]
fn an_unknown_key_is_an_error_with_its_place() {
    let error = refused("[data]\nlisten = \"0.0.0.0:1\"\nlissten = 1\n");
    assert!(
        error.starts_with("postern.toml:3:1: ") && error.contains("`lissten`"),
        "{error}"
    );
}

#[test]
fn a_wrong_type_is_an_error_with_its_place() {
    let error = refused("[http]\nheaders_max = \"many\"\n");
    assert!(error.starts_with("postern.toml:2:15: "), "{error}");
    let error = refused("[http]\nidle_timeout = 10\n");
    assert!(
        error.starts_with("postern.toml:2:16: ") && error.contains("\"10s\""),
        "{error}"
    );
}

#[test]
fn a_length_of_time_has_a_unit_a_sign_and_a_bound() {
    for text in ["10", "", "-5s", "31d", "800h", "ten seconds"] {
        let file = format!("[http]\nidle_timeout = \"{text}\"\n");
        assert!(
            load(&file).unwrap_err().starts_with("postern.toml:2:16: "),
            "{text}"
        );
    }
    let config = load(&format!("{WHOLE}\n[http]\nidle_timeout = \"1h 30m\"")).unwrap();
    assert_eq!(config.http.idle_timeout.as_secs(), 5400);
}

#[test]
fn every_required_key_is_asked_for_at_once() {
    let error = refused("[data]\n");
    for key in [
        "data.trusted_sources",
        "tls.certificates",
        "routes.file",
        "upstream.identity",
        "upstream.trust",
        "upstream.clusters",
    ] {
        assert!(error.contains(&format!(": {key}: ")), "{key} in {error}");
    }
    assert!(
        error.starts_with("postern.toml:1: data.trusted_sources: is required"),
        "{error}"
    );
}

#[test]
fn a_certificate_place_is_a_path_or_says_which_names_it_must_cover() {
    let places =
        r#"certificates = ["one", { path = "two", names = ["*.dicom.example", "a.example"] }]"#;
    let file = WHOLE.replace(
        r#"certificates = ["certs/private", "/etc/ssl/other.pem"]"#,
        places,
    );
    let config = load(&file).unwrap();
    let names: Vec<_> = config
        .tls
        .certificates
        .iter()
        .map(|place| place.names.len())
        .collect();
    assert_eq!(names, [0, 2]);
    let error = load(&file.replace("names", "name")).unwrap_err();
    assert!(error.contains("did you mean `names`?"), "{error}");
    let error = load(&file.replace("a.example", "a..example")).unwrap_err();
    assert!(
        error.contains("`a..example` is neither a host name nor a wildcard"),
        "{error}"
    );
}

/// Section, line, and how the finding begins.
const OUT_OF_BOUNDS: &[(&str, &str, &str)] = &[
    (
        "data",
        "connections_max = 0",
        "data.connections_max: must be from 1 to 500000, and is 0",
    ),
    (
        "data",
        "listen = \"0.0.0.0:0\"",
        "data.listen: `0.0.0.0:0` needs a port other than 0",
    ),
    (
        "data",
        "tcp_keepalive = \"240s\"",
        "data.tcp_keepalive: must be from 1s to 3m 59s, and is 4m",
    ),
    (
        "data",
        "tcp_keepalive = \"0s\"",
        "data.tcp_keepalive: must be from 1s",
    ),
    (
        "proxy_header",
        "bytes_max = 535",
        "proxy_header.bytes_max: must be from 536 to 4096",
    ),
    (
        "proxy_header",
        "timeout = \"0s\"",
        "proxy_header.timeout: must not be zero",
    ),
    (
        "http",
        "streams_max = 0",
        "http.streams_max: must be from 1",
    ),
    (
        "http",
        "requests_max = 0",
        "http.requests_max: must be from 1",
    ),
    (
        "route_cache",
        "stale_max = \"59s\"",
        "route_cache.stale_max: must not be shorter than route_cache.ttl",
    ),
    ("access_log", "output = \"\"", "access_log.output: must be"),
    (
        "access_log",
        "queue_max = 0",
        "access_log.queue_max: must be",
    ),
    (
        "drain",
        "timeout = \"0s\"",
        "drain.timeout: must not be zero",
    ),
    (
        "admin",
        "listen = \"0.0.0.0:8080\"",
        "admin.listen: `0.0.0.0:8080` is already probe.listen",
    ),
    (
        "probe",
        "listen = \"0.0.0.0:8443\"",
        "probe.listen: `0.0.0.0:8443` is already data.listen",
    ),
];

#[test]
fn values_out_of_bounds_are_refused_with_their_line() {
    for (section, value, says) in OUT_OF_BOUNDS {
        let header = format!("[{section}]\n");
        let text = if WHOLE.contains(&header) {
            WHOLE.replace(&header, &format!("{header}{value}\n"))
        } else {
            format!("{WHOLE}{header}{value}\n")
        };
        let line = text.lines().position(|line| line == *value).unwrap() + 1;
        let error = refused(&text);
        assert!(
            error.starts_with(&format!("postern.toml:{line}: {says}")),
            "{value}: {error}"
        );
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn a_cluster_needs_a_name_and_endpoints_with_a_port() {
    let error = refused(&WHOLE.replace("name = \"z1-weu-aks.internal.example\"\n", ""));
    assert!(
        error.starts_with("postern.toml:15: upstream.clusters.my-dicom.name: is required"),
        "{error}"
    );
    let error = refused(&WHOLE.replace("\"10.1.0.5:443\"", ""));
    assert!(
        error.starts_with("postern.toml:17: upstream.clusters.my-dicom.endpoints: is required"),
        "{error}"
    );
    for endpoint in [
        "10.1.0.5",
        "ingress.example",
        "ingress_1.example:443",
        "2001:db8::5:443",
        "10.1.0.5:0",
        "0.0.0.0:443",
    ] {
        let error = refused(&WHOLE.replace("10.1.0.5:443", endpoint));
        assert!(error.starts_with("postern.toml:17:"), "{endpoint}: {error}");
    }
    let error = refused(&WHOLE.replace("my-dicom", "My_DICOM"));
    assert!(
        error.contains("upstream.clusters.My_DICOM: a cluster's name has"),
        "{error}"
    );
}

#[test]
fn an_endpoint_is_an_address_or_a_name_and_may_have_a_zone() {
    let some =
        r#""10.1.0.5:443", "Ingress.example:8443", { address = "[2001:db8::5]:443", zone = "2" }"#;
    let text = WHOLE.replace("\"10.1.0.5:443\"", some);
    let text = text.replace("[upstream]\n", "[upstream]\nzone = \"2\"\n");
    let config = load(&text).unwrap();
    assert_eq!(config.upstream.zone.as_deref(), Some("2"));
    let endpoints = &config.upstream.clusters["my-dicom"].endpoints;
    let shown: Vec<_> = endpoints.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        ["10.1.0.5:443", "ingress.example:8443", "[2001:db8::5]:443"]
    );
    assert_eq!(endpoints[2].zone.as_deref(), Some("2"));
    let printed = toml::to_string(&config).unwrap();
    assert_eq!(toml::from_str::<Config>(&printed).unwrap(), config);
    for (endpoint, says) in [
        (r#"{ address = "10.1.0.5:443", zone = "" }"#, "a zone is"),
        (r#"{ address = "10.1.0.5:443", region = "weu" }"#, "region"),
        (r#"{ address = "10.1.0.5", zone = "1" }"#, "10.1.0.5"),
        ("443", "host:port"),
    ] {
        let error = refused(&WHOLE.replace("\"10.1.0.5:443\"", endpoint));
        assert!(error.starts_with("postern.toml:17:"), "{endpoint}: {error}");
        assert!(error.contains(says), "{endpoint}: {error}");
    }
}

#[test]
fn forward_needs_a_cluster_that_exists_and_no_route_file() {
    let text = WHOLE.replace("[routes]\nfile = \"routes.toml\"\n", "");
    let forward = |cluster| format!("mode = \"forward\"\nforward_cluster = \"{cluster}\"\n{text}");
    assert_eq!(load(&forward("my-dicom")).unwrap().mode, Mode::Forward);
    assert_eq!(
        refused(&forward("fhir")),
        "postern.toml:2: forward_cluster: there is no [upstream.clusters.fhir]"
    );
    let error = refused(&format!("mode = \"forward\"\n{text}"));
    assert!(
        error.starts_with("postern.toml: forward_cluster: is required"),
        "{error}"
    );
    let error = refused(&format!("forward_cluster = \"my-dicom\"\n{WHOLE}"));
    assert!(error.contains("only with mode = \"forward\""), "{error}");
}

#[test]
fn the_environment_overrides_the_file() {
    let config = load_with(
        WHOLE,
        &[
            ("POSTERN_WORKERS", "3"),
            ("POSTERN_DATA__LISTEN", "127.0.0.1:9443"),
            ("POSTERN_DATA__TRUSTED_SOURCES", "10.7.0.0/16, 10.8.0.0/16"),
            ("POSTERN_DATA__PROBE_SOURCES", "[\"10.9.0.0/16\"]"),
            ("POSTERN_HTTP__IDLE_TIMEOUT", "5s"),
            (
                "POSTERN_UPSTREAM__CLUSTERS__MY_DICOM__ENDPOINTS",
                "10.1.0.6:443",
            ),
            (
                "POSTERN_UPSTREAM__CLUSTERS__FHIR__NAME",
                "fhir.internal.example",
            ),
            (
                "POSTERN_UPSTREAM__CLUSTERS__FHIR__ENDPOINTS",
                "10.1.0.7:443",
            ),
            ("PATH", "/bin"),
        ],
    )
    .unwrap();
    assert_eq!(config.workers, 3);
    assert_eq!(config.data.listen.port(), 9443);
    assert_eq!(config.data.trusted_sources.len(), 2);
    assert_eq!(config.data.probe_sources[0].to_string(), "10.9.0.0/16");
    assert_eq!(config.http.idle_timeout.as_secs(), 5);
    assert_eq!(
        config.upstream.clusters["my-dicom"].endpoints[0].to_string(),
        "10.1.0.6:443"
    );
    assert_eq!(
        config.upstream.clusters["fhir"].name.as_str(),
        "fhir.internal.example"
    );
}

#[test]
fn a_variable_that_names_no_option_is_an_error_with_a_suggestion() {
    assert_eq!(
        load_with(WHOLE, &[("POSTERN_DATA__LISSTEN", "1")]).unwrap_err(),
        "POSTERN_DATA__LISSTEN: names no option; did you mean `POSTERN_DATA__LISTEN`?"
    );
    for variable in [
        "POSTERN_",
        "POSTERN_DATA",
        "POSTERN_DATA__",
        "POSTERN_MODE__X",
        "POSTERN_UPSTREAM__CLUSTERS__A",
    ] {
        let error = load_with(WHOLE, &[(variable, "1")]).unwrap_err();
        assert!(
            error.starts_with(&format!("{variable}: names no option")),
            "{error}"
        );
    }
}

#[test]
fn a_variable_with_a_value_that_does_not_fit_is_named() {
    for (variable, value) in [
        ("POSTERN_WORKERS", "many"),
        ("POSTERN_DATA__LISTEN", "localhost"),
        ("POSTERN_DATA__TRUSTED_SOURCES", "10.0.0.0/99"),
        ("POSTERN_DATA__TRUSTED_SOURCES", "[\"10.0.0.0/8\""),
        ("POSTERN_MODE", "loose"),
        ("POSTERN_HTTP__HEADERS_MAX", "1"),
    ] {
        let error = load_with(WHOLE, &[(variable, value)]).unwrap_err();
        assert!(
            error.starts_with(&format!("{variable}: ")),
            "{variable}={value}: {error}"
        );
    }
}

#[test]
fn variables_that_kubernetes_injects_for_services_are_not_options() {
    let env = [
        ("POSTERN_SERVICE_HOST", "10.0.0.1"),
        ("POSTERN_SERVICE_PORT", "8443"),
        ("POSTERN_SERVICE_PORT_DATA", "8443"),
        ("POSTERN_PORT", "tcp://10.0.0.1:8443"),
        ("POSTERN_PORT_8443_TCP_ADDR", "10.0.0.1"),
        ("POSTERN_PROBE_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
    ];
    load_with(WHOLE, &env).unwrap();
}

#[test]
fn variables_of_postern_control_are_not_options() {
    for prefix in ["control", "routing"] {
        let variable = format!("POSTERN_{}_ADMIN__LISTEN", prefix.to_uppercase());
        load_with(WHOLE, &[(&variable, "127.0.0.1:1")]).unwrap();
        let options = toml::Table::try_from(Config::default()).unwrap();
        assert!(!options.keys().any(|key| key.starts_with(prefix)));
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let error = Config::load(Path::new("/nowhere/postern.toml"), std::iter::empty()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "/nowhere/postern.toml: the configuration file cannot be read"
    );
    assert!(std::error::Error::source(&error).is_some());
}
