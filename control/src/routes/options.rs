//! Where the books are, and who asks: arguments, then environment variables, then a configuration file.
//!
//! Promises that what it gives is either one file or one service with everything that mutual TLS needs; whatever is
//! missing or twofold is told by its argument before anything is opened. Never holds a key, only where it lies.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use postern_api::HostName;
use postern_chassis::{Root, Section, options, period};

use crate::routing::model::ConnectionsMax;

/// Where the books are. Each argument stands above its environment variable, and that above the configuration file.
#[derive(Args, Debug, Clone, Default)]
#[command(next_help_heading = "Where the books are")]
pub struct WhereArguments {
    /// The account-routing service.
    #[arg(long, global = true, value_name = "https://HOST:PORT")]
    service: Option<String>,
    /// The name that the service's certificate must have, if it is not the HOST.
    #[arg(long, global = true, value_name = "NAME")]
    name: Option<HostName>,
    /// Our certificate and key: a store, or a folder with tls.crt, tls.key and perhaps ca.crt.
    #[arg(long, global = true, value_name = "PATH", conflicts_with_all = ["cert", "key"])]
    identity: Option<PathBuf>,
    /// Our certificate and its chain (PEM).
    #[arg(long, global = true, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// The certificate's key (PEM).
    #[arg(long, global = true, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The CAs that may have signed the service's certificate: PEM, a folder or a store. Default: those of --identity.
    #[arg(long, global = true, value_name = "PATH")]
    trust: Option<PathBuf>,
    /// How long to wait for each answer: "30s".
    #[arg(long, global = true, value_name = "PERIOD", value_parser = parse_period)]
    timeout: Option<Duration>,
    /// The service's database file instead, for when the service is down. Safe beside a service that runs.
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "service")]
    file: Option<PathBuf>,
    /// A TOML file with these options [default: /etc/postern/postern-routes.toml, if it is there].
    #[arg(short, long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

options! {
    /// Where the books are.
    pub struct Config {
        /// The account-routing service.
        pub service: Option<String> = None => r#""https://routing.internal.example:8443""#;
        /// The name that the service's certificate must have. Default: the host of `service`.
        pub name: Option<HostName> = None => r#""routing.internal.example""#;
        /// Our certificate and key: a store, or a folder with tls.crt, tls.key and perhaps ca.crt.
        pub identity: Option<PathBuf> = None => r#""/etc/postern/operator""#;
        /// Our certificate and its chain (PEM), in place of `identity`.
        pub cert: Option<PathBuf> = None => r#""operator.crt""#;
        /// The certificate's key (PEM).
        pub key: Option<PathBuf> = None => r#""operator.key""#;
        /// The CAs that may have signed the service's certificate: PEM, a folder or a store. Default: those of `identity`.
        pub trust: Option<PathBuf> = None => r#""ca.pem""#;
        /// How long to wait for each answer.
        #[serde(with = "period")]
        pub timeout: Duration = Duration::from_secs(30);
        /// The service's database file, in place of `service`.
        pub file: Option<PathBuf> = None => r#""/var/lib/postern/routing.sqlite""#;
        /// How many connections an account in the file may have that does not say so itself: as the service's own option.
        pub connections_max: u32 = ConnectionsMax::default().get();
    }
}

const INTRODUCTION: &str = "\
# Every option of `postern-control routes`, with its default. Arguments override it, and so do environment variables:
# POSTERN_CONTROL_ROUTES_SERVICE=https://….

";

const DEFAULT_PATH: &str = "/etc/postern/postern-routes.toml";

// Limit: a service that has not answered in ten minutes will not.
const TIMEOUT_MAX: Duration = Duration::from_mins(10);

impl Root for Config {
    const PROGRAM: &'static str = "postern-control routes";
    const PREFIX: &'static str = "POSTERN_CONTROL_ROUTES_";
    const OTHERS: &'static [&'static str] = &[];
    const INTRODUCTION: &'static str = INTRODUCTION;

    fn validate(&self, mut at: Section<'_>) {
        at.period(
            "timeout",
            self.timeout,
            Duration::from_millis(1)..=TIMEOUT_MAX,
        );
        let fits = ConnectionsMax::try_from(self.connections_max);
        at.require("connections_max", fits.is_ok(), || {
            fits.err().map_or_else(String::new, |why| why.to_string())
        });
    }

    fn resolve(&mut self, folder: &Path) {
        let paths = [&mut self.identity, &mut self.cert, &mut self.key];
        let others = [&mut self.trust, &mut self.file];
        for path in paths.into_iter().chain(others).flatten() {
            *path = folder.join(&path);
        }
    }
}

/// Where the books are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// At a service.
    Service(ServicePlace),
    /// In a file.
    File(FilePlace),
}

/// A service, and how to be known there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ServicePlace {
    /// Where it listens.
    pub(super) host: String,
    /// At which port.
    pub(super) port: u16,
    /// The name that its certificate must have: a host name or an IP address.
    pub(super) name: String,
    /// Our certificate and key.
    pub(super) identity: IdentityPlace,
    /// The CAs that may have signed its certificate.
    pub(super) trust: Option<PathBuf>,
    /// How long to wait for each answer.
    pub(super) timeout: Duration,
}

/// Where our certificate and key lie.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum IdentityPlace {
    /// Together.
    Together(PathBuf),
    /// In two files.
    Apart {
        /// The certificate and its chain.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
    },
}

/// A file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FilePlace {
    /// Which.
    pub(super) path: PathBuf,
    /// How many connections an account may have that does not say so itself.
    pub(super) connections_max: ConnectionsMax,
}

impl WhereArguments {
    /// Where the books are, or what is missing.
    pub(super) fn place(
        self,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<Place, String> {
        let default = Path::new(DEFAULT_PATH);
        let path = self.config.as_deref();
        let config: Config = match path.or_else(|| default.exists().then_some(default)) {
            Some(path) => postern_chassis::load(path, env),
            None => postern_chassis::without_file(env),
        }
        .map_err(|error| postern_chassis::whole(&error))?;
        place(self.over(config))
    }

    /// The configuration with the arguments in place of what it says. Who names a file means no service, and who names
    /// one kind of identity not the other.
    fn over(self, mut config: Config) -> Config {
        if self.file.is_some() {
            config.service = None;
        }
        if self.service.is_some() {
            config.file = None;
            // The name was that of the other service.
            config.name = None;
        }
        if self.identity.is_some() {
            (config.cert, config.key) = (None, None);
        }
        if self.cert.is_some() || self.key.is_some() {
            config.identity = None;
        }
        Config {
            service: self.service.or(config.service),
            name: self.name.or(config.name),
            identity: self.identity.or(config.identity),
            cert: self.cert.or(config.cert),
            key: self.key.or(config.key),
            trust: self.trust.or(config.trust),
            timeout: self.timeout.unwrap_or(config.timeout),
            file: self.file.or(config.file),
            connections_max: config.connections_max,
        }
    }
}

fn place(config: Config) -> Result<Place, String> {
    let Config { service, file, .. } = &config;
    match (service, file) {
        (Some(_), Some(_)) => {
            Err("both a service and a file are named: say --service or --file".to_owned())
        }
        (None, None) => Err(
            "where are the books? Say --service https://HOST:PORT or --file FILE, \
             set POSTERN_CONTROL_ROUTES_SERVICE, or name a --config"
                .to_owned(),
        ),
        (None, Some(path)) => Ok(Place::File(FilePlace {
            path: path.clone(),
            connections_max: config.connections_max.try_into().unwrap_or_default(),
        })),
        (Some(url), None) => {
            let (host, port) = authority(url)?;
            Ok(Place::Service(ServicePlace {
                name: config
                    .name
                    .map_or_else(|| host.clone(), |it| it.to_string()),
                host,
                port,
                identity: identity(config.identity, config.cert, config.key)?,
                trust: config.trust,
                timeout: config.timeout,
            }))
        }
    }
}

fn identity(
    together: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
) -> Result<IdentityPlace, String> {
    match (together, cert, key) {
        (Some(path), None, None) => Ok(IdentityPlace::Together(path)),
        (None, Some(cert), Some(key)) => Ok(IdentityPlace::Apart { cert, key }),
        (None, None, None) => Err("the service wants to know who asks: \
             say --identity PATH, or --cert FILE and --key FILE"
            .to_owned()),
        (Some(_), ..) => {
            Err("both an identity and a cert or key are named: say one of them".to_owned())
        }
        (None, Some(_), None) => Err("--cert needs --key".to_owned()),
        (None, None, Some(_)) => Err("--key needs --cert".to_owned()),
    }
}

/// The host and port of `https://HOST:PORT`.
fn authority(url: &str) -> Result<(String, u16), String> {
    let refused = || format!("--service: `{url}` is not https://HOST:PORT");
    let uri: http::Uri = url.parse().map_err(|_| refused())?;
    let plain = uri.path() == "/" && uri.query().is_none() && !url.contains('@');
    match (uri.scheme_str(), uri.host(), uri.port()) {
        (Some("https"), Some(host), port) if plain => {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            // Without a port there is no colon, either.
            let has_port = uri
                .authority()
                .is_some_and(|it| it.as_str().len() > it.host().len());
            match port {
                Some(port) => Ok((host.to_owned(), port.as_u16())),
                None if !has_port => Ok((host.to_owned(), 443)),
                None => Err(refused()),
            }
        }
        _ => Err(refused()),
    }
}

fn parse_period(text: &str) -> Result<Duration, String> {
    let deserializer: serde::de::value::StrDeserializer<'_, serde::de::value::Error> =
        serde::de::IntoDeserializer::into_deserializer(text);
    let read = period::deserialize(deserializer).map_err(|error| error.to_string())?;
    if read.is_zero() || read > TIMEOUT_MAX {
        return Err(format!(
            "must be longer than nothing, and at most {}",
            period::show(TIMEOUT_MAX)
        ));
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::RoutesArguments;
    use super::*;

    /// Where these arguments, variables and file say that the books are.
    fn placed(arguments: &[&str], env: &[(&str, &str)], file: &str) -> Result<Place, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("routes.toml");
        std::fs::write(&path, file).unwrap();
        let config = path.to_str().unwrap();
        let all = ["routes", "list", "--config", config]
            .into_iter()
            .chain(arguments.iter().copied());
        let read = RoutesArguments::try_parse_from(all).map_err(|error| error.to_string())?;
        let env = env.iter().map(|(name, value)| {
            (
                format!("POSTERN_CONTROL_ROUTES_{name}"),
                (*value).to_owned(),
            )
        });
        let shown = format!("{}/", folder.path().display());
        read.at.place(env).map_err(|why| why.replace(&shown, ""))
    }

    fn service(place: Place) -> ServicePlace {
        let Place::Service(place) = place else {
            panic!("{place:?}");
        };
        place
    }

    const FILE: &str =
        "service = \"https://file.example:1\"\nidentity = \"/id\"\nname = \"n.example\"\n";

    #[test]
    fn arguments_stand_above_variables_and_those_above_the_file() {
        let named = |arguments: &[&str], env: &[(&str, &str)]| {
            let place = service(placed(arguments, env, FILE).unwrap());
            format!("{}:{} {}", place.host, place.port, place.name)
        };
        let env = [("SERVICE", "https://env.example:2")];
        assert_eq!(named(&[], &[]), "file.example:1 n.example");
        assert_eq!(named(&[], &env), "env.example:2 n.example");
        let arguments = ["--service", "https://argument.example"];
        assert_eq!(
            named(&arguments, &env),
            "argument.example:443 argument.example"
        );
        let arguments = ["--service", "https://[::1]:3", "--name", "m.example"];
        assert_eq!(named(&arguments, &env), "::1:3 m.example");
    }

    #[test]
    fn who_names_a_file_means_no_service() {
        let place = placed(&["--file", "/b.sqlite"], &[("CONNECTIONS_MAX", "7")], FILE);
        let path = PathBuf::from("/b.sqlite");
        let connections_max = 7.try_into().unwrap();
        let file = FilePlace {
            path,
            connections_max,
        };
        assert_eq!(place.unwrap(), Place::File(file));
    }

    #[test]
    fn one_kind_of_identity_takes_the_place_of_the_other() {
        let arguments = ["--cert", "/c", "--key", "/k"];
        let place = service(placed(&arguments, &[], FILE).unwrap());
        let (cert, key) = ("/c".into(), "/k".into());
        assert_eq!(place.identity, IdentityPlace::Apart { cert, key });
    }

    #[test]
    fn what_is_missing_or_twofold_is_told_by_its_argument() {
        let at = "https://a.example:1";
        for (arguments, file, why) in [
            (&[][..], "", "where are the books? Say --service"),
            (
                &[],
                "service = \"https://a\"\nfile = \"b\"",
                "both a service and a file are named",
            ),
            (
                &["--service", at],
                "",
                "the service wants to know who asks: say --identity",
            ),
            (&["--service", at, "--cert", "c"], "", "--cert needs --key"),
            (&["--service", at, "--key", "k"], "", "--key needs --cert"),
            (
                &["--service", "http://a:1", "--identity", "i"],
                "",
                "--service: `http://a:1` is not https://HOST:PORT",
            ),
            (
                &["--service", "https://a:1/x", "--identity", "i"],
                "",
                "--service: `https://a:1/x` is not",
            ),
            (
                &["--service", "https://u@a:1", "--identity", "i"],
                "",
                "--service: `https://u@a:1` is not",
            ),
            (
                &["--service", "https://a:99999", "--identity", "i"],
                "",
                "--service: `https://a:99999` is not",
            ),
            (
                &[],
                "timeout = \"0s\"",
                "routes.toml:1: timeout: must be from 1ms to 10m",
            ),
            (
                &[],
                "connections_max = 0",
                "routes.toml:1: connections_max: an account may have 1 to 1000",
            ),
            (
                &[],
                "sevice = \"a\"",
                "routes.toml:1:1: unknown key `sevice`; did you mean `service`?",
            ),
        ] {
            let told = placed(arguments, &[], file).unwrap_err();
            assert!(told.starts_with(why), "{told}");
        }
        let told = placed(&[], &[("SEVICE", "a")], "").unwrap_err();
        assert!(
            told.contains("did you mean `POSTERN_CONTROL_ROUTES_SERVICE`?"),
            "{told}"
        );
        let conflict = ["--file", "a", "--service", at];
        assert!(
            placed(&conflict, &[], "")
                .unwrap_err()
                .contains("cannot be used with")
        );
        let period = ["--file", "a", "--timeout", "11m"];
        assert!(
            placed(&period, &[], "")
                .unwrap_err()
                .contains("at most 10m")
        );
    }
}
