use std::path::Path;

use super::*;

const WHOLE: &str = r#"
[listen]
address = "127.0.0.1:8450"

[tls]
identity = "certs/server"
trust = "/var/lib/trust"

[clients.proxies]
san = "Postern.internal.example"
roles = ["read"]

[clients.operators]
san = "operators.internal.example"
roles = ["read", "write"]

[store]
path = "routing.sqlite"
"#;

fn load_with(text: &str, env: &[(&str, &str)]) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("routing.toml");
    std::fs::write(&path, text).unwrap();
    let env = env
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let shown = folder.path().display().to_string();
    Config::load(&path, env).map_err(|error| error.to_string().replace(&format!("{shown}/"), ""))
}

/// What is said of the configuration with one text replaced.
fn refused(old: &str, new: &str) -> String {
    assert!(WHOLE.contains(old), "{old}");
    load_with(&WHOLE.replacen(old, new, 1), &[]).unwrap_err()
}

#[test]
fn a_short_file_is_enough_and_its_paths_are_relative_to_it() {
    let config = load_with(WHOLE, &[]).unwrap();
    assert_eq!(config.limits, LimitOptions::default());
    assert!(config.tls.identity.is_absolute() && config.store.path.is_absolute());
    assert_eq!(config.tls.trust, Path::new("/var/lib/trust"));
    let san = config.clients["proxies"].san.as_ref().unwrap();
    assert_eq!(san.as_str(), "postern.internal.example");
}

#[test]
fn the_printed_defaults_read_back_as_the_defaults() {
    let read: Config = toml::from_str(&Config::print_defaults()).unwrap();
    assert_eq!(read, Config::default());
}

#[test]
fn a_variable_overrides_a_key() {
    let env = [
        ("POSTERN_ROUTING_LOOKUP__MAX_AGE", "30s"),
        ("POSTERN_CONTROL_REST__INTERVAL", "1m"),
        ("POSTERN_DATA__LISTEN", "0.0.0.0:1"),
    ];
    let config = load_with(WHOLE, &env).unwrap();
    assert_eq!(config.lookup.seconds(), 30);
    let unknown = load_with(WHOLE, &[("POSTERN_ROUTING_LOKUP__MAX_AGE", "30s")]).unwrap_err();
    assert!(
        unknown.contains("did you mean `POSTERN_ROUTING_LOOKUP__MAX_AGE`?"),
        "{unknown}"
    );
}

#[test]
fn mistakes_are_refused_with_their_place() {
    for (old, new, says) in [
        (
            "roles = [\"read\"]\n",
            "",
            "routing.toml:9: clients.proxies.roles: is required: one or more of",
        ),
        (
            "roles = [\"read\"]",
            "roles = []",
            "routing.toml:11: clients.proxies.roles: is required",
        ),
        (
            "roles = [\"read\"]",
            "roles = [\"reed\"]",
            "routing.toml:11:10: unknown word `reed`; did you mean `read`?",
        ),
        (
            "operators.internal.example",
            "postern.internal.example",
            "clients.proxies.san: `postern.internal.example` is already that of clients.operators",
        ),
        (
            "\"Postern.internal.example\"",
            "\"*.internal.example\"",
            "routing.toml:10:7: `*.internal.example`: a host name has only",
        ),
        (
            "san = \"Postern.internal.example\"\n",
            "",
            "routing.toml:9: clients.proxies.san: is required",
        ),
        (
            "[clients.proxies]",
            "[clients.Proxies]",
            "routing.toml:9: clients.Proxies: a name has 1 to 63",
        ),
        (
            "path = \"routing.sqlite\"",
            "",
            "store.path: is required: the file of the database",
        ),
        (
            "[store]\n",
            "[store]\nkind = \"sqlserver\"\n",
            "unknown word `sqlserver`",
        ),
        (
            "[store]\n",
            "[store]\npaht = \"x\"\n",
            "unknown key `paht`; did you mean `path`?",
        ),
        (
            "[store]\n",
            "[lookup]\nmax_age = \"1500ms\"\n[store]\n",
            "lookup.max_age: must be whole seconds",
        ),
        (
            "address = \"127.0.0.1:8450\"",
            "address = \"127.0.0.1:9093\"",
            "admin.listen: `127.0.0.1:9093` is already listen.address",
        ),
        (
            "identity = \"certs/server\"\n",
            "",
            "tls.identity: is required",
        ),
    ] {
        let said = refused(old, new);
        assert!(said.contains(says), "{said}\nhas not\n{says}");
    }
    let nobody = load_with(
        "[tls]\nidentity = \"a\"\ntrust = \"b\"\n[store]\npath = \"c\"\n",
        &[],
    );
    assert!(
        nobody
            .unwrap_err()
            .contains("clients: at least one is required")
    );
}
