//! Where one certificate is published: its store. Blocks on the disk.

use std::path::PathBuf;

use postern_certs::{Content, Layout, Location, Manifest, PublishError, Store};

use super::outcome::{Done, Outcome, Published, RoundError};

/// A store that may not exist yet; the first publication makes it.
#[derive(Debug, Clone)]
pub(super) struct Place {
    location: Location,
}

impl Place {
    pub(super) fn new(store: impl Into<PathBuf>) -> Self {
        Self {
            location: Location::new(store),
        }
    }

    /// Where readers look.
    pub(super) const fn location(&self) -> &Location {
        &self.location
    }

    /// What is published says about itself, if anything is.
    pub(super) fn manifest(&self) -> Option<Manifest> {
        let is_store = matches!(self.location.detect(), Ok(Layout::Store));
        let store = is_store.then(|| Store::open(self.location.path()));
        store?.ok()?.current()
    }

    /// Publishes `content`, which is `version` of the vault, unless it is already or is older than what is.
    pub(super) fn publish(
        &self,
        content: &impl Content,
        label: &str,
        version: &str,
    ) -> Result<Done, RoundError> {
        let before = self.manifest();
        let store = Store::open(self.location.path())?;
        let version = version.to_owned();
        match (store.publish(content, label), before) {
            (Ok(generation), before) => {
                let is_new = before.is_none_or(|before| before.generation != generation.get());
                Ok(Done {
                    outcome: if is_new {
                        Outcome::Published
                    } else {
                        Outcome::Unchanged
                    },
                    published: Published {
                        generation: generation.get(),
                        label: label.to_owned(),
                        subject: content.about().subject,
                        until: content.usable_until(),
                    },
                    version,
                })
            }
            (Err(PublishError::Older { .. }), Some(before)) => Ok(Done {
                outcome: Outcome::Older,
                published: before.into(),
                version,
            }),
            (Err(error), _) => Err(error.into()),
        }
    }
}

impl From<Manifest> for Published {
    fn from(manifest: Manifest) -> Self {
        Self {
            generation: manifest.generation,
            label: manifest.label,
            subject: manifest.subject,
            until: manifest.not_after,
        }
    }
}
