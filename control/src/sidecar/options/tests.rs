use super::*;

const WHOLE: &str = r#"
[identities.machine]
kind = "managed"

[vaults.main]
url = "https://postern.vault.azure.net"
identity = "machine"

[certificates.private]
kind = "server"
vault = "main"
name = "private"
store = "certs/private"
names = ["*.dicom.example"]

[certificates.client]
kind = "client"
vault = "main"
name = "client"
store = "certs/client"

[certificates.client.issue]
subject = "CN=postern, O=Example"
[certificates.client.issue.ca]
certificate = "internal-ca"

[certificates.trust]
kind = "trust"
vault = "main"
name = "internal-ca"
store = "/var/lib/trust"

[tickets]
vault = "main"
name = "tickets"
store = "certs/tickets"

[notifications]
listen = "127.0.0.1:9092"
token_file = "token"
"#;

fn load_with(text: &str, env: &[(&str, &str)]) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.toml");
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
    assert_eq!(config.rest, RestOptions::default());
    assert!(config.certificates["client"].store.is_absolute());
    assert_eq!(
        config.certificates["trust"].store,
        Path::new("/var/lib/trust")
    );
    assert!(config.notifications.unwrap().token_file.is_absolute());
    assert_eq!(config.scheduled_events, None);
}

#[test]
fn scheduled_events_need_no_more_than_their_section() {
    let text = format!("{WHOLE}[scheduled_events]\nkinds = [\"Terminate\", \"Freeze\"]\n");
    let events = load_with(&text, &[]).unwrap().scheduled_events.unwrap();
    assert_eq!(events.endpoint, "http://169.254.169.254");
    assert_eq!(events.postern_admin.to_string(), "127.0.0.1:9090");
    let words: Vec<_> = events.kinds.iter().map(|kind| kind.label()).collect();
    assert_eq!(words, ["terminate", "freeze"]);
}

#[test]
fn the_printed_defaults_read_back_as_the_defaults() {
    let read: Config = toml::from_str(&Config::print_defaults()).unwrap();
    assert_eq!(read, Config::default());
}

#[test]
fn the_environment_overrides_the_file() {
    let env = [
        ("POSTERN_CONTROL_REST__INTERVAL", "5m"),
        (
            "POSTERN_CONTROL_CERTIFICATES__CLIENT__ISSUE__RENEW_AT",
            "0.5",
        ),
        ("POSTERN_CONTROL_VAULTS__MAIN__VERIFY_CHALLENGE", "true"),
        ("POSTERN_DATA__LISTEN", "is the proxy's"),
    ];
    let config = load_with(WHOLE, &env).unwrap();
    assert_eq!(config.rest.interval.as_secs(), 300);
    let issue = config.certificates["client"].issue.as_ref().unwrap();
    assert!((issue.renew_at - 0.5).abs() < f64::EPSILON);
    assert_eq!(
        load_with(WHOLE, &[("POSTERN_CONTROL_REST__INTERVALL", "5m")]).unwrap_err(),
        "POSTERN_CONTROL_REST__INTERVALL: names no option; did you mean `POSTERN_CONTROL_REST__INTERVAL`?"
    );
}

#[test]
fn mistakes_are_told_with_place_and_suggestion() {
    for (old, new, says) in [
        (
            "kind = \"managed\"",
            "kin = \"managed\"",
            "control.toml:3:1: unknown key `kin`; did you mean `kind`?",
        ),
        (
            "\"server\"",
            "\"sever\"",
            "control.toml:10:8: unknown word `sever`; did you mean `server`?",
        ),
        (
            "identity = \"machine\"",
            "identity = \"machin\"",
            "control.toml:7: vaults.main.identity: there is no [identities.machin]; did you mean `machine`?",
        ),
        (
            "https://postern",
            "http://postern",
            "control.toml:6: vaults.main.url: `http://postern",
        ),
        (
            "identity = \"machine\"",
            "identity = \"machine\"\nverify_challenge = false",
            "control.toml:8: vaults.main.verify_challenge: verify_challenge = false is for stand-ins",
        ),
        (
            "names = [\"*.dicom.example\"]",
            "names = [\"*\"]",
            "control.toml:14: certificates.private.names: `*` is neither",
        ),
        (
            "name = \"private\"",
            "name = \"private key\"",
            "control.toml:12: certificates.private.name: a name in a vault has",
        ),
        (
            "store = \"certs/private\"",
            "store = \"certs/client\"",
            "control.toml:13: certificates.private.store: `certs/client` is another's store already",
        ),
        (
            "store = \"certs/tickets\"",
            "store = \"certs/client\"",
            "control.toml:36: tickets.store: `certs/client` is another's store already",
        ),
        (
            "subject = \"CN=postern, O=Example\"",
            "subject = \"postern\"",
            "control.toml:23: certificates.client.issue.subject: `postern` is no subject",
        ),
        (
            "certificate = \"internal-ca\"",
            "file = \"ca.pem\"",
            "certificates.client.issue.ca.key: `file` and `key` belong together",
        ),
        (
            "[tickets]",
            "[rest]\ninterval = \"50ms\"\n[tickets]",
            "control.toml:34: rest.interval: must be from 100ms to 24h, and is 50ms",
        ),
        (
            "store = \"certs/tickets\"",
            "store = \"certs/tickets\"\nlead = \"20m\"",
            "control.toml:37: tickets.lead: must be more than twice rest.interval",
        ),
        (
            "listen = \"127.0.0.1:9092\"",
            "listen = \"127.0.0.1:9091\"",
            "control.toml:39: notifications.listen: `127.0.0.1:9091` is already admin.listen",
        ),
        (
            "[certificates.trust]\nkind = \"trust\"",
            "[certificates.trust]\nkind = \"server\"",
            "certificates.client.trust: is required: which certificate of kind \"trust\"",
        ),
        (
            "[certificates.trust]",
            "[certificates.tickets]",
            "control.toml:27: certificates.tickets: is what the ticket keys are called",
        ),
    ] {
        let error = refused(old, new);
        let found = error.lines().any(|line| line.contains(says));
        assert!(found, "{says}\nis not in\n{error}");
    }
}

#[test]
fn mistakes_in_scheduled_events_are_told() {
    for (line, says) in [
        (
            "endpoint = \"https://169.254.169.254/metadata\"",
            "control.toml:34: scheduled_events.endpoint: `https://169.254.169.254/metadata` is not as",
        ),
        (
            "kinds = [\"Terminates\"]",
            "control.toml:34:10: unknown word `Terminates`; did you mean `Terminate`?",
        ),
        (
            "kinds = []",
            "control.toml:34: scheduled_events.kinds: is empty",
        ),
        (
            "vm_name = \"\"",
            "control.toml:34: scheduled_events.vm_name: has 1 to 128 bytes",
        ),
        (
            "margin = \"25s\"",
            "control.toml:34: scheduled_events.margin: must be from 2s to 20s, and is 25s",
        ),
    ] {
        let error = refused(
            "[tickets]",
            &format!("[scheduled_events]\n{line}\n[tickets]"),
        );
        assert!(error.contains(says), "{says}\nis not in\n{error}");
    }
}

#[test]
fn nothing_to_publish_is_refused() {
    let error = load_with("", &[]).unwrap_err();
    assert!(
        error.starts_with("control.toml: certificates: at least one is required"),
        "{error}"
    );
}

#[test]
fn there_is_never_a_doubt_which_identity_asks() {
    let two = "kind = \"managed\"\n[identities.other]\nkind = \"managed\"\nclient_id = \"a\"";
    let error = refused("kind = \"managed\"", two);
    assert_eq!(
        error,
        "control.toml:2: identities.machine.client_id: is required where there are several managed identities: which one is this?"
    );
    let two = "kind = \"managed\"\nclient_id = \"b\"\n[identities.other]\nkind = \"workload\"\n\
               [vaults.again]\nurl = \"https://POSTERN.vault.azure.net/\"\nidentity = \"other\"";
    let error = refused("kind = \"managed\"", two);
    assert_eq!(
        error,
        "control.toml:13: vaults.main.identity: `machine` and vaults.again's `other` are two identities for one vault; a vault is asked as one"
    );
}
