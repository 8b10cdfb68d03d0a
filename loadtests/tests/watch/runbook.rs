//! The runbook: a page for each alert, with its first command at the top; and what the pages tell one to type or to
//! look for is there.

use std::collections::BTreeSet;
use std::process::Command;

use http::{Method, StatusCode};
use postern_loadtests::stack::binary;
use postern_loadtests::stack::client::{Connection, empty};
use postern_loadtests::stack::local::{LocalOptions, LocalStack};

use crate::expressions::Expression;
use crate::{files, read, repository, rules};

const FOLDER: &str = "deploy/watch/runbook";
const FILES: [&str; 3] = [".toml", ".yaml", ".json"];

/// The command at the top of a page.
fn first_command<'a>(name: &str, page: &'a str) -> &'a str {
    let top = format!("# {name}\n\n```sh\n");
    let rest = page.strip_prefix(&top);
    let rest = rest.unwrap_or_else(|| panic!("{name} does not begin with its first command"));
    let (command, _) = rest.split_once("\n```\n").unwrap();
    assert!(
        !command.contains('\n'),
        "{name}: more than one line to copy"
    );
    command
}

/// What stands between backticks, and the command at the top.
fn code(page: &str) -> Vec<&str> {
    let (_, rest) = page.split_once("```sh\n").unwrap();
    let (command, text) = rest.split_once("\n```\n").unwrap();
    let mut found = vec![command];
    found.extend(text.split('`').skip(1).step_by(2));
    found
}

/// The code of all pages, with the name of its page.
fn all_code(pages: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
    pages
        .iter()
        .flat_map(|(name, page)| code(page).into_iter().map(move |it| (name.as_str(), it)))
}

/// The single commands of all pages, in words.
fn commands(pages: &[(String, String)]) -> Vec<(&str, Vec<String>)> {
    let known = [
        "curl ",
        "postern ",
        "postern-control ",
        "journalctl ",
        "systemctl ",
        "routes ",
    ];
    all_code(pages)
        .flat_map(|(name, code)| {
            split(code, &['|', ';'])
                .into_iter()
                .map(move |it| (name, it))
        })
        .map(|(name, command)| (name, command.trim().to_owned()))
        .filter(|(_, command)| known.iter().any(|program| command.starts_with(program)))
        .map(|(name, command)| {
            let words = split(&command, &[' ']).into_iter();
            (name, words.filter(|word| !word.is_empty()).collect())
        })
        .collect()
}

/// Splits as a shell does, without what is in quotes; the quotes go.
fn split(text: &str, at: &[char]) -> Vec<String> {
    let (mut parts, mut quote) = (vec![String::new()], None);
    for c in text.chars() {
        let part = parts.last_mut().unwrap();
        match quote {
            Some(open) if c == open => quote = None,
            None if c == '"' || c == '\'' => quote = Some(c),
            None if at.contains(&c) => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        // Kept while commands are told apart, so that words can be afterwards.
        if !(at == [' '] && (c == '"' || c == '\'')) {
            part.push(c);
        }
    }
    parts
}

#[test]
fn each_alert_has_a_page_that_begins_with_its_first_command_and_each_page_an_alert() {
    let pages = files(FOLDER, "md");
    for (name, page) in &pages {
        first_command(name, page);
        for part in [
            "\n**The customer** ",
            "\n| it says | do |\n",
            "\n**Do not** ",
            "\n**It is over** ",
        ] {
            assert_eq!(page.matches(part).count(), 1, "{name}: {part}");
        }
    }
    let pages: BTreeSet<_> = pages.into_iter().map(|(name, _)| name).collect();
    let alerts: BTreeSet<_> = rules::alerts()
        .into_iter()
        .map(|alert| alert.name)
        .collect();
    assert_eq!(pages, alerts);
}

#[test]
fn each_link_leads_to_a_page_and_each_metric_and_option_exists() {
    let pages = files(FOLDER, "md");
    let tables = rules::tables();
    let mut options: String = rust_sources(&["proxy/src/config", "control/src/sidecar/options"]);
    for name in ["postern", "postern-control", "postern-routing"] {
        options += &read(&repository(&format!("deploy/{name}.default.toml")));
    }
    for (name, page) in &pages {
        for link in page.split("](").skip(1) {
            let link = link.split(')').next().unwrap();
            assert!(repository(FOLDER).join(link).is_file(), "{name}: {link}");
        }
    }
    let named = |c: char| c.is_ascii_lowercase() || c == '_' || c == '.';
    for (name, code) in all_code(&pages) {
        let metric = code.split(['{', ' ']).next().unwrap();
        if metric.starts_with("postern_") || metric.starts_with("process_") {
            let (wrong, _) = Expression::read(name, code).check(&tables);
            assert_eq!(wrong, [""; 0], "{name}");
        } else if FILES.iter().any(|extension| code.ends_with(extension)) {
            continue;
        } else if code.contains('.') && code.chars().all(named) && !code.starts_with('.') {
            let key = code.rsplit('.').next().unwrap();
            assert!(
                options.contains(&format!("{key} = ")),
                "{name}: there is no option {code}"
            );
        }
        for word in code.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            if word.starts_with("postern_") {
                assert!(tables.begins(word), "{name}: no metric begins with {word}");
            }
        }
    }
}

#[test]
fn each_line_of_the_log_that_is_looked_for_is_written_somewhere() {
    let sources = rust_sources(&["proxy/src", "control/src"]);
    let units = ["postern", "postern-control", "postern-routing"];
    let pages = files(FOLDER, "md");
    for (name, words) in commands(&pages) {
        let after = |option: &str| {
            let position = words.iter().position(|word| word == option)?;
            words.get(position + 1)
        };
        if words[0] == "systemctl" {
            let of = words.iter().skip(2);
            assert!(
                of.clone().all(|unit| units.contains(&unit.as_str())),
                "{name}: {words:?}"
            );
        }
        if words[0] != "journalctl" {
            continue;
        }
        if let Some(unit) = after("-u") {
            assert!(units.contains(&unit.as_str()), "{name}: {unit}");
        }
        if let (Some(patterns), Some(_)) = (after("-g"), after("-u")) {
            for pattern in patterns.split('|') {
                assert!(
                    sources.contains(pattern),
                    "{name}: nothing writes {pattern:?}"
                );
            }
        }
    }
}

#[test]
fn each_command_of_ours_is_one() {
    let pages = files(FOLDER, "md");
    let mut asked = 0;
    for (name, mut words) in commands(&pages) {
        if words[0] == "routes" {
            words.insert(0, "postern-control".to_owned());
        }
        if !words[0].starts_with("postern") || words.iter().any(|word| word.contains('…')) {
            continue;
        }
        // What is said with the program alone, as in "`postern check`".
        let program = binary(&words[0]).unwrap();
        let nested = words[1] == "routes" && words.len() > 2 && !words[2].starts_with('-');
        let subcommand: Vec<_> = words[1..].iter().take(1 + usize::from(nested)).collect();
        let help = Command::new(program)
            .args(subcommand)
            .arg("--help")
            .output()
            .unwrap();
        let help = String::from_utf8(help.stdout).unwrap();
        assert!(help.contains("Usage:"), "{name}: {words:?}");
        for option in words.iter().filter(|word| word.starts_with('-')) {
            let there = help.split([' ', ',', '\n']).any(|word| word == option);
            assert!(there, "{name}: {words:?} has no {option}");
        }
        asked += 1;
    }
    assert!(asked > 10, "{asked}");
}

#[tokio::test]
async fn each_address_that_is_asked_answers() {
    let pages = files(FOLDER, "md");
    let mut of_postern = BTreeSet::new();
    for (name, words) in commands(&pages) {
        let Some(url) = words
            .iter()
            .find_map(|word| word.strip_prefix("http://127.0.0.1:"))
        else {
            continue;
        };
        let (port, path) = url.split_at(url.find('/').unwrap());
        let path = path.split('?').next().unwrap().to_owned();
        match port {
            "9090" | "8080" => {
                of_postern.insert((port.to_owned(), path));
            }
            "9091" | "9093" => {
                let program = if port == "9091" { "control" } else { "routing" };
                let options = read(&repository(&format!(
                    "deploy/postern-{program}.default.toml"
                )));
                assert!(
                    options.contains(&format!("127.0.0.1:{port}")),
                    "{name}: {url}"
                );
                let listed = options.contains(&format!(" {path}, "))
                    || options.contains(&format!(" {path}.\n"));
                assert!(listed, "{name}: {url}");
            }
            _ => panic!("{name}: {url}"),
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let stack = LocalStack::start(folder.path(), &LocalOptions::default())
        .await
        .unwrap();
    assert!(of_postern.len() >= 5, "{of_postern:?}");
    for (port, path) in of_postern {
        let address = if port == "9090" {
            stack.postern.admin()
        } else {
            stack.postern.probe()
        };
        let mut connection = Connection::plain(address).await.unwrap();
        let request = connection
            .request(Method::GET, &path)
            .unwrap()
            .body(empty())
            .unwrap();
        let answer = connection.fetch(request).await.unwrap();
        assert_eq!(answer.status, StatusCode::OK, "{port}{path}");
    }
}

fn rust_sources(folders: &[&str]) -> String {
    let mut text = String::new();
    let mut left: Vec<_> = folders.iter().map(|folder| repository(folder)).collect();
    while let Some(folder) = left.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                text += &read(&path);
            }
        }
    }
    text
}
