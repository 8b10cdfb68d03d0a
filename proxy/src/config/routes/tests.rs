use super::*;
use crate::config::Config;
use crate::config::tests::{WHOLE, load, refused};

const SERVICE: &str = r#"
[routes.service]
endpoints = ["routing.example:8450", "10.0.0.7:8450"]
name = "routing.example"
"#;

fn from_service() -> String {
    WHOLE.replace("[routes]\nfile = \"routes.toml\"\n", SERVICE)
}

#[test]
fn routes_come_from_a_file_or_from_the_service_and_never_from_both() {
    let config = load(&from_service()).unwrap();
    assert_eq!(config.routes.service.unwrap().endpoints.len(), 2);
    let both = WHOLE.replace(
        "file = \"routes.toml\"\n",
        &format!("file = \"routes.toml\"\n{SERVICE}"),
    );
    let error = refused(&both);
    assert!(
        error.contains(":9: routes.file: there is [routes.service], too"),
        "{error}"
    );
    let neither = WHOLE.replace("[routes]\nfile = \"routes.toml\"\n", "");
    let error = refused(&neither);
    assert!(
        error.contains("routes.file: is required unless mode = \"forward\"")
            && error.contains("[routes.service]"),
        "{error}"
    );
}

#[test]
fn what_the_service_needs_is_asked_for_at_once_with_its_place() {
    let empty = WHOLE.replace(
        "file = \"routes.toml\"",
        "[routes.service]\nhedge_after = \"3s\"",
    );
    let error = refused(&empty);
    for (key, what) in [
        ("endpoints", "is required"),
        ("name", "is required"),
        (
            "hedge_after",
            "must be shorter than route_cache.lookup_timeout, which is 2s",
        ),
    ] {
        assert!(
            error.contains(&format!(": routes.service.{key}: {what}")),
            "{key} in {error}"
        );
    }
    assert!(
        error.contains("postern.toml:10: routes.service.hedge_after"),
        "{error}"
    );
}

#[test]
fn an_endpoint_is_a_host_and_a_port() {
    let parsed = |text: &str| {
        text.parse::<Endpoint>()
            .map(|it| (it.to_string(), it.host.to_string()))
    };
    for (text, host) in [
        ("routing.example:8450", "routing.example"),
        ("10.0.0.7:1", "10.0.0.7"),
        ("[2001:db8::5]:8450", "2001:db8::5"),
    ] {
        assert_eq!(parsed(text), Ok((text.to_owned(), host.to_owned())));
    }
    for text in [
        "",
        "routing.example",
        "routing.example:",
        "routing.example:0",
        "routing.example:65536",
        ":8450",
        "https://routing.example:8450",
        "2001:db8::5:8450",
        "[10.0.0.7]:8450",
        "a b:1",
        "*.example:8450",
    ] {
        let file = from_service().replace("10.0.0.7:8450", text);
        let error = refused(&file);
        let told = format!("`{text}` is not a host and a port");
        assert!(
            error.starts_with("postern.toml:10:") && error.contains(&told),
            "{error}"
        );
    }
}

#[test]
fn an_unknown_key_of_the_service_has_its_place_and_a_suggestion() {
    let error = refused(&from_service().replace("name = \"r", "hedge_afterr = \"1s\"\nname = \"r"));
    assert!(
        error.starts_with("postern.toml:11:1: ") && error.contains("`hedge_after`"),
        "{error}"
    );
}

#[test]
fn paths_of_the_service_are_relative_to_the_file() {
    let text = from_service().replace(
        "name = \"routing",
        "identity = \"one\"\ntrust = \"two\"\nsnapshot = \"three\"\nname = \"routing",
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("postern.toml");
    std::fs::write(&path, text).unwrap();
    let service = Config::load(&path, std::iter::empty())
        .unwrap()
        .routes
        .service;
    let service = service.unwrap();
    let paths = [service.identity, service.trust, service.snapshot];
    let expected = ["one", "two", "three"].map(|name| Some(folder.path().join(name)));
    assert_eq!(paths, expected);
}
