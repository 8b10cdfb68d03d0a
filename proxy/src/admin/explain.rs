//! The query of `/routes/explain`.

use postern_api::{HostName, LinkId};

/// What is asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) link_id: LinkId,
    pub(super) sni: HostName,
    /// The Host or `:authority`; the server name if the query has none.
    pub(super) host: String,
}

impl Question {
    /// Reads `link_id=N&sni=NAME[&host=HOST]`; the error is for whoever typed it.
    pub(super) fn parse(query: &str) -> Result<Self, String> {
        let [mut link_id, mut sni, mut host] = [None, None, None];
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let place = match name {
                "link_id" => &mut link_id,
                "sni" => &mut sni,
                "host" => &mut host,
                _ => return Err(format!("there is no parameter `{name}`; {USAGE}")),
            };
            let value = decode(value).ok_or_else(|| format!("{name}: is not well encoded"))?;
            if place.replace(value).is_some() {
                return Err(format!("{name}: is there twice"));
            }
        }
        let required = |name, value: Option<String>| {
            value
                .filter(|value| !value.is_empty())
                .ok_or_else(|| format!("{name}: is required; {USAGE}"))
        };
        let link_id = required("link_id", link_id)?;
        let sni = required("sni", sni)?;
        let host = host.unwrap_or_else(|| sni.clone());
        Ok(Self {
            link_id: link_id.parse().map_err(|why| format!("link_id: {why}"))?,
            sni: sni.parse().map_err(|why| format!("sni: {why}"))?,
            host,
        })
    }
}

/// One value of a query as browsers and curl encode it. `None` if that is no text.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

const USAGE: &str = "ask /routes/explain?link_id=N&sni=NAME&host=HOST";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_the_server_name_unless_it_is_given() {
        let question = Question::parse("link_id=42&sni=A.example").unwrap();
        assert_eq!(question.link_id, LinkId::new(42));
        assert_eq!(
            (question.sni.as_str(), question.host.as_str()),
            ("a.example", "A.example")
        );
        let question = Question::parse("host=b.example%3a443&sni=a.example&link_id=1").unwrap();
        assert_eq!(question.host, "b.example:443");
    }

    #[test]
    fn a_mistake_is_told_in_words() {
        for (query, begins) in [
            ("", "link_id: is required; ask /routes/explain?"),
            ("link_id=1&sni=", "sni: is required"),
            (
                "link_id=1&sni=a.example&sni=b.example",
                "sni: is there twice",
            ),
            (
                "link_id=1&sni=10.0.0.4",
                "sni: an IP address is not a host name",
            ),
            ("link_id=4294967296&sni=a.example", "link_id: "),
            ("link=1", "there is no parameter `link`"),
            ("link_id=1&sni=a%2", "sni: is not well encoded"),
            ("link_id=1&sni=a%ff", "sni: is not well encoded"),
        ] {
            let mistake = Question::parse(query).unwrap_err();
            assert!(mistake.starts_with(begins), "{query}: {mistake}");
        }
    }
}
