use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{ConfigError, Root, Section, load, options, period, print_defaults, without_file};

options! {
    /// All of it.
    pub struct Whole {
        /// How many.
        pub count: usize = 3;
        /// Whether.
        pub wanted: bool = true;
        /// Which part.
        pub share: f64 = 0.5;
        /// What it is called.
        pub title: String = "a".into();
        /// Where.
        pub path: PathBuf = PathBuf::new() => r#""here""#;
        /// May be left out.
        pub part: Option<Part> = None;
        /// Under names.
        pub parts: BTreeMap<String, Part> = BTreeMap::new() => "first";
    }
}

options! {
    /// A part.
    pub struct Part {
        /// How long.
        #[serde(with = "period")]
        pub wait: Duration = Duration::from_secs(5);
        /// Deeper.
        pub deep: Option<Deep> = None;
    }
}

options! {
    /// Deeper.
    pub struct Deep {
        /// How deep.
        pub level: usize = 1;
    }
}

impl Root for Whole {
    const PROGRAM: &'static str = "whole";
    const PREFIX: &'static str = "WHOLE_";
    const OTHERS: &'static [&'static str] = &["WHOLE_OTHER_"];
    const INTRODUCTION: &'static str = "# Introduction.\n";

    fn validate(&self, mut at: Section<'_>) {
        at.within("count", self.count, 1..=9);
        for (name, part) in &self.parts {
            at.under("parts").under(name).wait("wait", part.wait);
        }
    }

    fn resolve(&mut self, folder: &Path) {
        self.path = folder.join(&self.path);
    }
}

fn read(text: &str, env: &[(&str, &str)]) -> Result<Whole, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("whole.toml");
    std::fs::write(&path, text).unwrap();
    let env = env
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let shown = format!("{}/", folder.path().display());
    load(&path, env).map_err(|error: ConfigError| error.to_string().replace(&shown, ""))
}

#[test]
fn the_defaults_show_optional_and_named_sections_as_comments_with_what_they_would_hold() {
    assert_eq!(
        print_defaults::<Whole>(),
        "# Introduction.\n\
         # How many.\ncount = 3\n# Whether.\nwanted = true\n# Which part.\nshare = 0.5\n\
         # What it is called.\ntitle = \"a\"\n# Where.\n# path = \"here\"\n\
         \n# May be left out.\n# [part]\n# How long.\n# wait = \"5s\"\n\
         \n# Deeper.\n# [part.deep]\n# How deep.\n# level = 1\n\
         \n# Under names.\n# [parts.first]\n# How long.\n# wait = \"5s\"\n\
         \n# Deeper.\n# [parts.first.deep]\n# How deep.\n# level = 1\n"
    );
}

#[test]
fn a_variable_overrides_keys_of_optional_and_named_sections() {
    let env = [
        ("WHOLE_PART__WAIT", "1s"),
        ("WHOLE_PARTS__A__DEEP__LEVEL", "7"),
        ("WHOLE_OTHER_COUNT", "8"),
        ("OTHER", "x"),
    ];
    let whole = read("[parts.A]\nwait = \"2s\"\n", &env).unwrap();
    assert_eq!(whole.part.unwrap().wait, Duration::from_secs(1));
    let part = &whole.parts["A"];
    assert_eq!(part.wait, Duration::from_secs(2));
    assert_eq!(part.deep.as_ref().unwrap().level, 7);
    assert_eq!(whole.count, 3);
}

#[test]
fn without_a_file_there_are_the_defaults_and_the_variables() {
    let read = |name: &str, value: &str| {
        let env = [(name.to_owned(), value.to_owned())];
        without_file::<Whole>(env.into_iter()).map_err(|error| error.to_string())
    };
    assert_eq!(read("OTHER", "x").unwrap(), Whole::default());
    assert_eq!(read("WHOLE_COUNT", "4").unwrap().count, 4);
    assert_eq!(
        read("WHOLE_COUNT", "10").unwrap_err(),
        "WHOLE_COUNT: count: must be from 1 to 9, and is 10"
    );
}

#[test]
fn a_variable_that_names_no_option_is_told_whose_defaults_to_print() {
    assert_eq!(
        read("", &[("WHOLE_QQQQQQQQQQQQQQQQQQQQQQQQQQ", "1")]).unwrap_err(),
        "WHOLE_QQQQQQQQQQQQQQQQQQQQQQQQQQ: names no option; `whole defaults` prints them all"
    );
    assert_eq!(
        read("", &[("WHOLE_COUNTS", "1")]).unwrap_err(),
        "WHOLE_COUNTS: names no option; did you mean `WHOLE_COUNT`?"
    );
}

#[test]
fn a_variable_is_read_as_the_type_of_its_option() {
    let env = [
        ("WHOLE_WANTED", "false"),
        ("WHOLE_SHARE", "1"),
        ("WHOLE_TITLE", "12"),
    ];
    let whole = read("", &env).unwrap();
    assert!(!whole.wanted && whole.share > 0.9 && whole.title == "12");
    let error = read("", &[("WHOLE_COUNT", "-1")]).unwrap_err();
    assert!(error.contains("-1"), "{error}");
}

#[test]
fn a_finding_names_the_line_or_the_variable_that_it_came_from() {
    assert_eq!(
        read("count = 0\n[parts.a]\nwait = \"0s\"\n", &[]).unwrap_err(),
        "whole.toml:1: count: must be from 1 to 9, and is 0\nwhole.toml:3: parts.a.wait: must not be zero"
    );
    assert_eq!(
        read("", &[("WHOLE_COUNT", "10")]).unwrap_err(),
        "WHOLE_COUNT: count: must be from 1 to 9, and is 10"
    );
}

#[test]
fn relative_paths_are_relative_to_the_file() {
    let whole = read("path = \"there\"", &[]).unwrap();
    assert!(whole.path.is_absolute() && whole.path.ends_with("there"));
}
