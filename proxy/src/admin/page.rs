//! `/`: the state of the process in one page for people. Needs nothing from elsewhere, and every value is escaped.

use std::fmt::{self, Display, Formatter};

use postern_certs::UnixTime;

use super::Sources;
use super::certificates::{self, RefusedRow, Row};
use crate::explain::ServiceContact;
use crate::server::{Phase, Progress};

/// What the page shows.
#[derive(Debug)]
pub(super) struct Page {
    mode: &'static str,
    waiting_for: Vec<&'static str>,
    ready: bool,
    progress: Progress,
    previous_connections: usize,
    routes_generation: u64,
    service: Option<ServiceContact>,
    certificates: Vec<Row>,
    refused: Vec<RefusedRow>,
    clusters: Vec<Cluster>,
    now: i64,
}

#[derive(Debug)]
struct Cluster {
    name: String,
    server_name: String,
    /// Address, and whether it is up.
    endpoints: Vec<(String, bool)>,
}

impl Page {
    /// The state now.
    pub(super) fn of(sources: &Sources) -> Self {
        let places = sources.credentials.places();
        let mut clusters: Vec<_> = sources.clusters.iter().map(Cluster::of).collect();
        clusters.sort_by(|one, other| one.name.cmp(&other.name));
        Self {
            mode: sources.authorizer.mode().label(),
            waiting_for: sources.readiness.waiting_for(),
            ready: sources.readiness.is_ready(),
            progress: sources.drain.progress(),
            previous_connections: sources.metrics.lifecycle().previous_connections(),
            routes_generation: sources.authorizer.cache().generation(),
            service: sources.service.as_deref().map(ServiceContact::of),
            certificates: certificates::certificates(&places),
            refused: certificates::refused(&sources.credentials),
            clusters,
            now: i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX),
        }
    }

    fn state(&self) -> (&'static str, String) {
        match (self.ready, self.progress.phase) {
            (_, phase) if phase != Phase::Serving => {
                ("warn", format!("draining: {}", phase.label()))
            }
            (true, _) => ("good", "ready".into()),
            (false, _) => (
                "bad",
                format!("not ready, waiting for {}", self.waiting_for.join(", ")),
            ),
        }
    }

    fn write_certificates(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(
            "<h2>Certificates</h2>\n<table><tr><th>Use<th>Subject<th>Names<th>Expires<th>Days left\n",
        )?;
        for row in &self.certificates {
            let days = (row.not_after_seconds - self.now).div_euclid(86_400);
            let class = match days {
                ..0 => "bad",
                0..SOON_DAYS => "warn",
                _ => "good",
            };
            writeln!(
                f,
                "<tr><td>{} {}<td>{}<td>{}<td>{}<td class={class}>{days}",
                Escaped(row.used_as),
                Escaped(row.role),
                Escaped(&row.subject),
                Escaped(&row.names.join(", ")),
                Escaped(&row.not_after),
            )?;
        }
        f.write_str("</table>\n")?;
        for row in &self.refused {
            writeln!(
                f,
                "<p class=bad>{} {}: refused: {}</p>",
                Escaped(row.used_as),
                Escaped(&row.path),
                Escaped(&row.error)
            )?;
        }
        Ok(())
    }

    fn write_clusters(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("<h2>Clusters</h2>\n<table><tr><th>Cluster<th>Name<th>Endpoint<th>State\n")?;
        for cluster in &self.clusters {
            for (address, up) in &cluster.endpoints {
                let (class, state) = if *up { ("good", "up") } else { ("bad", "down") };
                writeln!(
                    f,
                    "<tr><td>{}<td>{}<td>{}<td class={class}>{state}",
                    Escaped(&cluster.name),
                    Escaped(&cluster.server_name),
                    Escaped(address)
                )?;
            }
        }
        f.write_str("</table>\n")
    }
}

impl Cluster {
    fn of(cluster: &crate::upstream::Cluster) -> Self {
        let endpoints = cluster.states();
        Self {
            name: cluster.name.to_string(),
            server_name: cluster.server_name.to_str().into_owned(),
            endpoints: endpoints
                .map(|(address, up)| (address.to_string(), up))
                .collect(),
        }
    }
}

impl Display for Page {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(HEAD)?;
        writeln!(f, "<h1>Postern {}</h1>", Escaped(env!("CARGO_PKG_VERSION")))?;
        if self.mode == "enforce" {
            f.write_str("<p>Mode <b>enforce</b></p>\n")?;
        } else {
            let mode = Escaped(self.mode);
            writeln!(
                f,
                "<p class=warn>Mode <b>{mode}</b>: decisions are not enforced</p>"
            )?;
        }
        let (class, state) = self.state();
        writeln!(f, "<p class={class}>{}</p>", Escaped(&state))?;
        f.write_str("<table>\n")?;
        for (name, value) in [
            ("Drain", self.progress.phase.label().to_owned()),
            ("Open connections", self.progress.connections.to_string()),
            (
                "Requests in flight",
                self.progress.requests_in_flight.to_string(),
            ),
            ("Routes generation", self.routes_generation.to_string()),
        ] {
            writeln!(f, "<tr><th>{name}<td>{}", Escaped(&value))?;
        }
        if self.previous_connections > 0 {
            let left = self.previous_connections;
            writeln!(f, "<tr><th>Connections of the previous process<td>{left}")?;
        }
        if let Some(service) = &self.service {
            let class = if service.out_of_reach { "bad" } else { "good" };
            let text = service.to_string();
            writeln!(
                f,
                "<tr><th>Account routing<td class={class}>{}",
                Escaped(&text)
            )?;
        }
        f.write_str("</table>\n")?;
        self.write_certificates(f)?;
        self.write_clusters(f)?;
        f.write_str(LINKS)
    }
}

/// A text that means nothing to HTML, as content and within a quoted attribute.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.find(['&', '<', '>', '"', '\'']) {
            f.write_str(&rest[..at])?;
            f.write_str(match rest.as_bytes()[at] {
                b'&' => "&amp;",
                b'<' => "&lt;",
                b'>' => "&gt;",
                b'"' => "&quot;",
                _ => "&#39;",
            })?;
            rest = &rest[at + 1..];
        }
        f.write_str(rest)
    }
}

// Renewal begins weeks ahead; what is left with less has missed it.
const SOON_DAYS: i64 = 14;

const HEAD: &str = "<!doctype html>
<html lang=en>
<meta charset=utf-8>
<meta name=viewport content=\"width=device-width\">
<title>Postern</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem; color: #1a1a1a; background: #fff }
table { border-collapse: collapse }
th, td { text-align: left; padding: .2rem 1rem .2rem 0; vertical-align: top }
p.good, p.warn, p.bad { padding: .4rem .8rem; max-width: 60rem }
.good { color: #0b5c1d } .warn { color: #7a4b00; background: #fff3cd } .bad { color: #8b0000; background: #fde2e2 }
</style>
";

const LINKS: &str = "<h2>More</h2>
<ul>
<li><a href=/metrics>/metrics</a> for Prometheus
<li><a href=/certs>/certs</a> every certificate in use, and what was refused
<li><a href=/config>/config</a> the configuration in force
<li><a href=/connections>/connections</a> the open connections
<li><a href=/routes/explain>/routes/explain</a>?link_id=N&amp;sni=NAME&amp;host=HOST what would happen to a request
<li><a href=/drain>/drain</a> how far the drain is; POST begins it
<li><a href=/log-level>/log-level</a> of the operational log; PUT changes it
</ul>
";

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Page {
        Page {
            mode: "enforce",
            waiting_for: Vec::new(),
            ready: true,
            progress: Progress {
                phase: Phase::Serving,
                connections: 3,
                requests_in_flight: 1,
                connections_cut: 0,
                began: None,
                deadline_seconds: None,
            },
            previous_connections: 0,
            routes_generation: 7,
            service: Some(ServiceContact {
                last_contact_seconds: Some(90),
                out_of_reach: true,
                sequence: 812,
            }),
            certificates: Vec::new(),
            refused: vec![RefusedRow::new(
                "client",
                "/etc/<x>",
                "expired",
                "ended \"then\" & there",
            )],
            clusters: vec![Cluster {
                name: "dicom".into(),
                server_name: "z1.example".into(),
                endpoints: vec![
                    ("10.0.0.1:443".into(), true),
                    ("10.0.0.2:443".into(), false),
                ],
            }],
            now: 0,
        }
    }

    #[test]
    fn every_value_is_escaped_and_nothing_is_fetched_from_elsewhere() {
        let text = page().to_string();
        assert!(
            text.contains("client /etc/&lt;x&gt;: refused: ended &quot;then&quot; &amp; there"),
            "{text}"
        );
        for source in ["src=", "http:", "https:", "<script", "url("] {
            assert!(!text.contains(source), "{source}");
        }
        assert!(text.contains("<td>10.0.0.1:443<td class=good>up"));
        assert!(text.contains("<td>10.0.0.2:443<td class=bad>down"));
        let service = "<td class=bad>last heard of 90 s ago, out of reach now, at change 812";
        assert!(text.contains(service), "{text}");
    }

    #[test]
    fn a_mode_that_does_not_enforce_and_a_state_that_is_not_ready_stand_out() {
        let text = page().to_string();
        assert!(text.contains("Mode <b>enforce</b>") && text.contains("<p class=good>ready</p>"));
        let mut page = page();
        page.mode = "audit";
        page.ready = false;
        page.waiting_for = vec!["ingress", "routes"];
        let text = page.to_string();
        assert!(
            text.contains("<p class=warn>Mode <b>audit</b>: decisions are not enforced"),
            "{text}"
        );
        assert!(
            text.contains("<p class=bad>not ready, waiting for ingress, routes</p>"),
            "{text}"
        );
        page.progress.phase = Phase::Ending;
        assert!(
            page.to_string()
                .contains("<p class=warn>draining: ending</p>")
        );
    }
}
