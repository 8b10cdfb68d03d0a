//! `/`: the state of the process in one page for people, worst first. Needs nothing from elsewhere, runs no script, and
//! every value is escaped.

mod html;
mod state;
#[cfg(test)]
mod tests;

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use jiff::Timestamp;
use postern_certs::UnixTime;

use self::html::{Escaped, HEAD, STYLE, Tone, fact, grouped, meter, more, row, span, table};
use super::Sources;
use super::certificates::{self, RefusedRow, Row};
use super::recent::Refused;
use crate::explain::ServiceContact;
use crate::metrics::Limits;
use crate::outcome::Blame;
use crate::server::{History, Phase, Progress};

/// What the page shows.
#[derive(Debug)]
pub(super) struct Page {
    mode: &'static str,
    waiting_for: Vec<&'static str>,
    ready: bool,
    progress: Progress,
    configuration: History,
    previous_connections: usize,
    up: Duration,
    limits: Limits,
    /// Open, and how many may be.
    descriptors: Option<(u64, u64)>,
    routes_generation: u64,
    service: Option<ServiceContact>,
    certificates: Vec<Row>,
    refused_certificates: Vec<RefusedRow>,
    clusters: Vec<Cluster>,
    refused: Refused,
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
    /// The state now, of a process that has been up for so long.
    pub(super) fn of(sources: &Sources, up: Duration, refused: Refused) -> Self {
        let places = sources.credentials.places();
        let mut clusters: Vec<_> = sources.clusters.iter().map(|it| Cluster::of(&it)).collect();
        clusters.sort_by(|one, other| one.name.cmp(&other.name));
        let process = postern_chassis::process::sample();
        let descriptors = process.open_fds.zip(process.max_fds);
        Self {
            mode: sources.authorizer.mode().label(),
            waiting_for: sources.readiness.waiting_for(),
            ready: sources.readiness.is_ready(),
            configuration: sources.in_force.history(),
            progress: sources.drain.progress(),
            previous_connections: sources.metrics.lifecycle().previous_connections(),
            up,
            limits: super::limits(&sources.in_force.config()),
            descriptors: descriptors
                .and_then(|(open, max)| Some((open.try_into().ok()?, max.try_into().ok()?))),
            routes_generation: sources.authorizer.cache().generation(),
            service: sources.service.as_deref().map(ServiceContact::of),
            certificates: certificates::certificates(&places),
            refused_certificates: certificates::refused(&sources.credentials),
            clusters,
            refused,
            now: i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX),
        }
    }

    fn at(&self) -> Timestamp {
        Timestamp::from_second(self.now).unwrap_or_default()
    }

    fn write_now(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("<h2 id=now>Now</h2>\n<dl>\n")?;
        let Self {
            progress, limits, ..
        } = self;
        let connections = progress.connections as u64;
        let requests = u64::try_from(progress.requests_in_flight).unwrap_or(0);
        for (name, value, max) in [
            ("Connections", connections, limits.connections as u64),
            ("Requests in flight", requests, limits.requests as u64),
        ]
        .into_iter()
        .chain(
            self.descriptors
                .map(|(open, max)| ("File descriptors", open, max)),
        ) {
            let tone = match value {
                _ if value >= max => Tone::Bad,
                _ if value >= max / 10 * 8 => Tone::Warn,
                _ => Tone::Plain,
            };
            fact(f, name, &grouped(value), tone, &meter(value, max))?;
        }
        if self.previous_connections > 0 {
            let left = format!("{} connections", self.previous_connections);
            fact(
                f,
                "The process before this one",
                &left,
                Tone::Plain,
                &more("left"),
            )?;
        }
        if let Some(service) = &self.service {
            let heard = service.last_contact_seconds.map_or_else(
                || "never heard of".to_owned(),
                |seconds| format!("heard of {} ago", span(Duration::from_secs(seconds))),
            );
            let tone = if service.out_of_reach {
                Tone::Bad
            } else {
                Tone::Good
            };
            let reach = if service.out_of_reach {
                "out of reach now, "
            } else {
                ""
            };
            let hold = limits.route_stale.map_or_else(String::new, span);
            let about = format!(
                "{reach}at change {}; without it, routes hold for {hold}",
                service.sequence
            );
            fact(f, "Account routing", &heard, tone, &more(&about))?;
        } else {
            let version = format!("version {}", self.routes_generation);
            fact(f, "Routes", &version, Tone::Plain, "")?;
        }
        let since = format!("{:.0}", self.configuration.since);
        fact(
            f,
            "Configuration",
            "in force",
            Tone::Plain,
            &more(&format!("since {since}")),
        )?;
        f.write_str("</dl>\n")
    }

    fn write_refused(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Refused {
            within,
            since_start,
            counts,
        } = &self.refused;
        let stretch = if *since_start {
            "since the start, "
        } else {
            "in the last "
        };
        writeln!(f, "<h2 id=refused>Refused {stretch}{}</h2>", span(*within))?;
        if counts.is_empty() {
            return f.write_str("<p>Nothing.</p>\n");
        }
        table(f, "short", &["Reason", "Times", "Who has to act"])?;
        for (refusal, count) in counts.iter().take(REASONS_MAX) {
            let (act, tone) = match refusal.blame() {
                Blame::Us => ("we", Tone::Bad),
                Blame::Upstream => ("the ingress", Tone::Bad),
                Blame::Policy => ("nobody: the rules", Tone::Plain),
                Blame::Client => ("the client", Tone::Plain),
            };
            row(
                f,
                &[
                    ("Reason", refusal.label().to_owned(), tone),
                    ("Times", grouped(*count), Tone::Plain),
                    ("Who acts", act.to_owned(), Tone::Plain),
                ],
            )?;
        }
        f.write_str("</table>\n")?;
        let others: u64 = counts
            .iter()
            .skip(REASONS_MAX)
            .map(|(_, count)| count)
            .sum();
        if others > 0 {
            writeln!(
                f,
                "<p><small>And {} for other reasons.</small></p>",
                grouped(others)
            )?;
        }
        Ok(())
    }

    fn write_certificates(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("<h2 id=certificates>Certificates</h2>\n")?;
        for refused in &self.refused_certificates {
            writeln!(
                f,
                "<div class=\"note bad\"><b>Refused</b>: {} {}<p>{}</p></div>",
                Escaped(refused.used_as),
                Escaped(&refused.path),
                Escaped(&refused.error)
            )?;
        }
        table(f, "", &["Use", "Days left", "Names", "Subject", "Ends"])?;
        for certificate in &self.certificates {
            let days = (certificate.not_after_seconds - self.now).div_euclid(86_400);
            let tone = match days {
                ..ABOUT_TO_END_DAYS => Tone::Bad,
                ABOUT_TO_END_DAYS..ENDING_DAYS => Tone::Warn,
                _ => Tone::Good,
            };
            row(
                f,
                &[
                    (
                        "Use",
                        format!("{} {}", certificate.used_as, certificate.role),
                        Tone::Plain,
                    ),
                    ("Days left", days.to_string(), tone),
                    ("Names", certificate.names.join(", "), Tone::Plain),
                    ("Subject", certificate.subject.clone(), Tone::Plain),
                    ("Ends", certificate.not_after.clone(), Tone::Plain),
                ],
            )?;
        }
        f.write_str("</table>\n")
    }

    fn write_clusters(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("<h2 id=ingress>Ingress</h2>\n")?;
        table(f, "", &["Cluster", "Address", "State", "Name"])?;
        for cluster in &self.clusters {
            for (address, up) in &cluster.endpoints {
                let (state, tone) = if *up {
                    ("up", Tone::Good)
                } else {
                    ("down", Tone::Bad)
                };
                row(
                    f,
                    &[
                        ("Cluster", cluster.name.clone(), Tone::Plain),
                        ("Address", address.clone(), Tone::Plain),
                        ("State", state.to_owned(), tone),
                        ("Name", cluster.server_name.clone(), Tone::Plain),
                    ],
                )?;
            }
            if cluster.endpoints.is_empty() {
                row(
                    f,
                    &[
                        ("Cluster", cluster.name.clone(), Tone::Plain),
                        ("Address", "none".to_owned(), Tone::Bad),
                        ("State", "not resolved".to_owned(), Tone::Bad),
                        ("Name", cluster.server_name.clone(), Tone::Plain),
                    ],
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
        let (_, state) = self.state();
        // Whoever watches a drain, or waits for readiness, need not press a key.
        if !self.ready && self.progress.phase != Phase::Drained {
            f.write_str("<meta http-equiv=refresh content=5>\n")?;
        }
        writeln!(f, "<title>{state} · Postern</title>")?;
        f.write_str(STYLE)?;
        self.write_state(f)?;
        self.write_now(f)?;
        self.write_refused(f)?;
        self.write_certificates(f)?;
        self.write_clusters(f)?;
        f.write_str(LINKS)
    }
}

// As the alerts PosternCertificateEnding and PosternCertificateAboutToEnd have it.
const ENDING_DAYS: i64 = 7;
const ABOUT_TO_END_DAYS: i64 = 2;
// Limit: the first few are what somebody acts on.
const REASONS_MAX: usize = 6;

const LINKS: &str = "<h2>More</h2>
<ul class=more>
<li><a href=/metrics>/metrics</a> for Prometheus
<li><a href=/certs>/certs</a> every certificate in use, and what was refused
<li><a href=/config>/config</a> the configuration in force
<li><a href=/connections>/connections</a> the open connections
<li><a href=/routes/explain>/routes/explain</a>?link_id=N&amp;sni=NAME&amp;host=HOST what would happen to a request
<li><a href=/drain>/drain</a> how far the drain is; POST begins it
<li><a href=/log-level>/log-level</a> of the operational log; PUT changes it
</ul>
";
