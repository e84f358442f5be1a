//! The settings of `diptych serve`: each from a flag, the environment, the file, or its default, in
//! this order.

use std::{
    env,
    ffi::OsString,
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use clap::ValueEnum;

use super::file::{ConfigFile, SETTINGS, ValueForm};
use crate::{
    address,
    args::{LogFormat, LogLevel, SERVE_LISTEN, ServeArgs, ServeOptions},
    exit::Failure,
};

/// The variable with the path of the file.
const CONFIG: &str = "DIPTYCH_CONFIG";
const WAIT_SECONDS: u32 = 2;

/// The settings of a server.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) data: PathBuf,
    pub(crate) wait: Duration,
    pub(crate) listen: SocketAddr,
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) private_key: Option<PathBuf>,
    pub(crate) tokens: Option<PathBuf>,
    pub(crate) host: Vec<String>,
    pub(crate) open_to_all: bool,
    pub(crate) accept_future_time: bool,
    pub(crate) accept_new_place: bool,
    pub(crate) receive_copy: bool,
    pub(crate) log_format: LogFormat,
    pub(crate) log_level: LogLevel,
    report: Report,
}

/// The settings as TOML, each with the source of its value.
#[derive(Debug, Default)]
pub(crate) struct Report(Vec<String>);

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// Reads the environment; tests pass another function.
pub(super) type Environment<'e> = &'e dyn Fn(&str) -> Option<OsString>;

impl Settings {
    /// Reads the file and the environment.
    pub(crate) fn read(args: ServeArgs) -> Result<Settings, Failure> {
        Settings::from(args, &|name| env::var_os(name))
    }

    /// The settings as TOML, each with the source of its value. Files that have secrets are only
    /// named.
    pub(crate) fn report(&self) -> &Report {
        &self.report
    }

    pub(super) fn from(args: ServeArgs, environment: Environment<'_>) -> Result<Settings, Failure> {
        let path = args.config.or_else(|| environment(CONFIG).map(PathBuf::from));
        let file = path.map(ConfigFile::read).transpose()?.unwrap_or_default();
        let mut layers = Layers { file, environment, report: Report::default() };
        let ServeOptions {
            data,
            wait_seconds,
            listen,
            certificate,
            private_key,
            tokens,
            host,
            open_to_all,
            accept_future_time,
            accept_new_place,
            receive_copy,
            log_format,
            log_level,
        } = args.options;
        let data = layers.pick("data", data, folder)?;
        let wait = layers.pick_or("wait-seconds", wait_seconds, WAIT_SECONDS, plain)?;
        let listen = layers.pick_or("listen", listen, SERVE_LISTEN, plain)?;
        let certificate = layers.pick("certificate", certificate, path_of)?;
        let private_key = layers.pick("private-key", private_key, path_of)?;
        let tokens = layers.pick("tokens", tokens, path_of)?;
        let hosts = (!host.is_empty()).then_some(HostNames(host));
        let HostNames(host) = layers.pick_or("host", hosts, HostNames::default(), HostNames::of)?;
        let open_to_all = layers.pick_or("open-to-all", open_to_all, false, plain)?;
        let accept_future_time =
            layers.pick_or("accept-future-time", accept_future_time, false, plain)?;
        let accept_new_place =
            layers.pick_or("accept-new-place", accept_new_place, false, plain)?;
        let receive_copy = layers.pick_or("receive-copy", receive_copy, false, plain)?;
        let log_format = layers.pick_or("log-format", log_format, LogFormat::default(), choice)?;
        let log_level = layers.pick_or("log-level", log_level, LogLevel::default(), choice)?;
        let Some(data) = data else {
            return Err(Failure::input(
                "no folder is given: name it by --data, by DIPTYCH_DATA, or as `data` in the file \
                 that --config names",
            ));
        };
        for (name, has_one, other) in [
            ("certificate", certificate.is_some(), "private-key"),
            ("private-key", private_key.is_some(), "certificate"),
        ] {
            if has_one && (certificate.is_none() || private_key.is_none()) {
                let detail = format!("{name} is given, and {other} is not: give both or none");
                return Err(Failure::input(detail));
            }
        }
        let wait = Duration::from_secs(wait.into());
        Ok(Settings {
            data,
            wait,
            listen,
            certificate,
            private_key,
            tokens,
            host,
            open_to_all,
            accept_future_time,
            accept_new_place,
            receive_copy,
            log_format,
            log_level,
            report: layers.report,
        })
    }
}

/// The places that settings come from.
struct Layers<'e> {
    file: ConfigFile,
    environment: Environment<'e>,
    report: Report,
}

/// The text of a setting, from the environment or the file.
struct SettingText<'t> {
    texts: Vec<String>,
    /// The folder that paths are relative to; the current one if there is none.
    base: Option<&'t Path>,
}

impl SettingText<'_> {
    fn one(&self) -> &str {
        self.texts.first().map_or("", String::as_str)
    }

    /// The path, relative to the folder of the file.
    fn under_base(&self, path: PathBuf) -> PathBuf {
        match self.base {
            Some(base) => base.join(path),
            None => path,
        }
    }
}

impl Layers<'_> {
    /// The value of a setting from the first place that has it.
    fn pick<T: SettingValue>(
        &mut self,
        name: &str,
        flag: Option<T>,
        parse: impl Fn(&SettingText<'_>) -> Result<T, String>,
    ) -> Result<Option<T>, Failure> {
        let found = self.find(name, flag, parse)?;
        self.report.0.push(match &found {
            Some((value, source)) => format!("{name} = {}  # {source}", value.to_toml()),
            None => format!("# {name} is not set"),
        });
        Ok(found.map(|(value, _)| value))
    }

    /// The value of a setting that has a default.
    fn pick_or<T: SettingValue>(
        &mut self,
        name: &str,
        flag: Option<T>,
        default: T,
        parse: impl Fn(&SettingText<'_>) -> Result<T, String>,
    ) -> Result<T, Failure> {
        let found = self.find(name, flag, parse)?;
        let (value, source) = found.unwrap_or_else(|| (default, "default".to_owned()));
        self.report.0.push(format!("{name} = {}  # {source}", value.to_toml()));
        Ok(value)
    }

    fn find<T>(
        &self,
        name: &str,
        flag: Option<T>,
        parse: impl Fn(&SettingText<'_>) -> Result<T, String>,
    ) -> Result<Option<(T, String)>, Failure> {
        if let Some(value) = flag {
            return Ok(Some((value, format!("--{name}"))));
        }
        let (text, source) = if let Some((text, variable)) = self.in_environment(name)? {
            let texts = match SETTINGS.contains(&(name, ValueForm::List)) {
                true => text.split(',').map(|part| part.trim().to_owned()).collect(),
                false => vec![text],
            };
            (SettingText { texts, base: None }, variable)
        } else if let Some(entry) = self.file.entry(name) {
            let source = self.file.place(entry.line);
            (SettingText { texts: entry.texts.clone(), base: self.file.folder() }, source)
        } else {
            return Ok(None);
        };
        match parse(&text) {
            Ok(value) => Ok(Some((value, source))),
            Err(error) => {
                let texts = text.texts.join(",");
                Err(Failure::input(format!("{source}: {name} cannot be {texts:?}: {error}")))
            }
        }
    }

    /// The variable of a setting. An empty one counts as not set.
    fn in_environment(&self, name: &str) -> Result<Option<(String, String)>, Failure> {
        let variable = format!("DIPTYCH_{}", name.to_ascii_uppercase().replace('-', "_"));
        let Some(text) = (self.environment)(&variable) else { return Ok(None) };
        match text.into_string() {
            Ok(text) if text.is_empty() => Ok(None),
            Ok(text) => Ok(Some((text, variable))),
            Err(_) => Err(Failure::input(format!("{variable} is no UTF-8"))),
        }
    }
}

fn plain<T: FromStr<Err: fmt::Display>>(text: &SettingText<'_>) -> Result<T, String> {
    text.one().parse().map_err(|error: T::Err| error.to_string())
}

fn choice<T: ValueEnum>(text: &SettingText<'_>) -> Result<T, String> {
    T::from_str(text.one(), false).map_err(|_| {
        let values = T::value_variants().iter().filter_map(ValueEnum::to_possible_value);
        let names: Vec<String> = values.map(|value| value.get_name().to_owned()).collect();
        format!("it is one of {}", names.join(", "))
    })
}

fn path_of(text: &SettingText<'_>) -> Result<PathBuf, String> {
    match text.one() {
        "" => Err("a path is not empty".to_owned()),
        path => Ok(text.under_base(path.into())),
    }
}

fn folder(text: &SettingText<'_>) -> Result<PathBuf, String> {
    address::parse_folder(text.one().into()).map(|path| text.under_base(path))
}

/// Names of hosts, as a list.
#[derive(Default)]
struct HostNames(Vec<String>);

impl HostNames {
    fn of(text: &SettingText<'_>) -> Result<HostNames, String> {
        match text.texts.iter().any(String::is_empty) {
            true => Err("a name is not empty".to_owned()),
            false => Ok(HostNames(text.texts.clone())),
        }
    }
}

/// A value as TOML.
trait SettingValue {
    fn to_toml(&self) -> toml::Value;
}

impl SettingValue for PathBuf {
    fn to_toml(&self) -> toml::Value {
        self.display().to_string().into()
    }
}

impl SettingValue for SocketAddr {
    fn to_toml(&self) -> toml::Value {
        self.to_string().into()
    }
}

impl SettingValue for u32 {
    fn to_toml(&self) -> toml::Value {
        (*self).into()
    }
}

impl SettingValue for bool {
    fn to_toml(&self) -> toml::Value {
        (*self).into()
    }
}

impl SettingValue for HostNames {
    fn to_toml(&self) -> toml::Value {
        self.0.clone().into()
    }
}

impl SettingValue for LogFormat {
    fn to_toml(&self) -> toml::Value {
        name_of(self).into()
    }
}

impl SettingValue for LogLevel {
    fn to_toml(&self) -> toml::Value {
        name_of(self).into()
    }
}

fn name_of(value: &impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs};

    use clap::Parser;
    use tempfile::TempDir;

    use super::*;
    use crate::args::{Cli, Command};

    /// The settings from these flags, variables and this file, which is in `folder`.
    fn settings(
        flags: &[&str],
        variables: &BTreeMap<String, String>,
        file: Option<&str>,
        folder: &TempDir,
    ) -> Result<Settings, String> {
        let path = folder.path().join("diptych.toml");
        let mut words = vec!["diptych", "serve"];
        if let Some(text) = file {
            fs::write(&path, text).unwrap();
            words.extend(["--config", path.to_str().unwrap()]);
        }
        words.extend(flags);
        let Command::Serve(args) = Cli::try_parse_from(words).unwrap().command else { panic!() };
        let environment = |name: &str| variables.get(name).map(OsString::from);
        Settings::from(args, &environment).map_err(|failure| failure.to_string())
    }

    /// A value of each setting, other than its default, as a flag, as a variable and in the file.
    fn values(name: &str) -> [&'static str; 3] {
        match name {
            "data" | "certificate" | "private-key" | "tokens" => ["/flag", "/variable", "/file"],
            "wait-seconds" => ["7", "8", "9"],
            "listen" => ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"],
            "host" => ["flag", "variable", "file"],
            "open-to-all" | "accept-future-time" | "accept-new-place" | "receive-copy" => {
                ["true", "false", "true"]
            }
            "log-format" => ["json", "text", "json"],
            "log-level" => ["warn", "debug", "trace"],
            other => panic!("{other} has no values in this test"),
        }
    }

    fn in_file(name: &str, form: ValueForm, value: &str) -> String {
        match form {
            ValueForm::Text => format!("{name} = {value:?}\n"),
            ValueForm::List => format!("{name} = [{value:?}]\n"),
            ValueForm::Number | ValueForm::Flag => format!("{name} = {value}\n"),
        }
    }

    fn variable(name: &str) -> String {
        format!("DIPTYCH_{}", name.to_ascii_uppercase().replace('-', "_"))
    }

    /// The line of the report about a setting: its value and its source.
    fn line<'r>(report: &'r str, name: &str) -> (&'r str, &'r str) {
        let line = report.lines().find_map(|line| line.strip_prefix(&format!("{name} = ")));
        let (value, source) =
            line.unwrap_or_else(|| panic!("no {name}:\n{report}")).split_once("  # ").unwrap();
        (value.trim_matches(['[', ']', '"']), source)
    }

    #[test]
    fn flags_win_over_the_environment_over_the_file_over_defaults() {
        let folder = TempDir::new().unwrap();
        // Every run has both files of encryption, because one alone is refused.
        let base = BTreeMap::from([
            (variable("data"), "/base".to_owned()),
            (variable("certificate"), "/base".to_owned()),
            (variable("private-key"), "/base".to_owned()),
        ]);
        for (name, form) in SETTINGS {
            let [flag, variable_value, file_value] = values(name);
            let flag = format!("--{name}={flag}");
            let file = in_file(name, form, file_value);
            let mut with = base.clone();
            with.insert(variable(name), variable_value.to_owned());
            let mut without = base.clone();
            without.remove(&variable(name));
            let report = |flags: &[&str], variables, file| {
                let settings = settings(flags, variables, file, &folder);
                settings.map(|settings| settings.report().to_string())
            };
            let all = report(&[&flag], &with, Some(&file)).unwrap();
            assert_eq!(line(&all, name), (values(name)[0], format!("--{name}").as_str()));
            let two = report(&[], &with, Some(&file)).unwrap();
            assert_eq!(line(&two, name), (variable_value, variable(name).as_str()));
            let one = report(&[], &without, Some(&file)).unwrap();
            let (value, source) = line(&one, name);
            assert_eq!(value, file_value);
            assert!(source.ends_with("diptych.toml, line 1"), "{source}");
            match (name, report(&[], &without, None)) {
                ("data", none) => assert!(none.unwrap_err().contains("no folder is given")),
                ("certificate", none) => {
                    assert!(none.unwrap_err().contains("private-key is given"))
                }
                ("private-key", none) => {
                    assert!(none.unwrap_err().contains("certificate is given"))
                }
                ("tokens", none) => assert!(none.unwrap().contains("# tokens is not set")),
                (_, none) => assert_eq!(line(&none.unwrap(), name).1, "default"),
            }
        }
    }

    #[test]
    fn a_printed_configuration_is_a_file_with_the_same_settings() {
        let folder = TempDir::new().unwrap();
        let flags =
            ["--data", "a \"b\" #", "--host", "one", "--host", "two", "--log-level", "warn"];
        let none = BTreeMap::new();
        let printed = settings(&flags, &none, None, &folder).unwrap().report().to_string();
        let again = settings(&[], &none, Some(&printed), &folder).unwrap();
        assert_eq!(again.data, folder.path().join("a \"b\" #"));
        assert_eq!(again.host, ["one", "two"]);
        assert_eq!(again.log_level, LogLevel::Warn);
    }

    #[test]
    fn wrong_files_and_variables_are_named_with_their_place() {
        let folder = TempDir::new().unwrap();
        let none = BTreeMap::new();
        let of_file = |text: &str| settings(&[], &none, Some(text), &folder).unwrap_err();
        for (text, expected) in [
            (
                "data = \"d\"\nlisen = \"127.0.0.1:1\"",
                "line 2: there is no setting \"lisen\": \"listen\" may be",
            ),
            (
                "\n\nprivate_key = \"k\"",
                "line 3: there is no setting \"private_key\": \"private-key\"",
            ),
            ("zzz = 1", "line 1: there is no setting \"zzz\"; there are: data, wait-seconds"),
            ("[log]\nformat = \"json\"", "line 1: there is no setting \"log\""),
            ("data = 1", "line 1: data is a text in quotes"),
            ("host = [1]", "host is a list of texts"),
            ("open-to-all = \"yes\"", "open-to-all is true or false"),
            ("wait-seconds = -1", "wait-seconds cannot be \"-1\""),
            ("data = \"d\"\nlisten = \"x\"", "line 2: listen cannot be \"x\""),
            ("log-format = \"xml\"", "log-format cannot be \"xml\": it is one of text, json"),
            ("data = \"diptych://h/log\"", "on the machine of the server"),
            ("tokens = \"\"", "a path is not empty"),
            ("data = \"d\"\ndata = \"e\"", "line 2: duplicate key"),
            ("data = ", "line 1"),
        ] {
            let error = of_file(text);
            assert!(error.contains("diptych.toml") && error.contains(expected), "{text}: {error}");
        }
        let variables = BTreeMap::from([("DIPTYCH_LISTEN".to_owned(), "here".to_owned())]);
        let error = settings(&["--data", "d"], &variables, None, &folder).unwrap_err();
        assert!(error.starts_with("DIPTYCH_LISTEN: listen cannot be \"here\""), "{error}");
        let missing = BTreeMap::from([(CONFIG.to_owned(), "/no/such/file".to_owned())]);
        let error = settings(&["--data", "d"], &missing, None, &folder).unwrap_err();
        assert!(error.contains("cannot read the settings in /no/such/file"), "{error}");
    }

    #[test]
    fn a_list_in_the_environment_has_commas() {
        let folder = TempDir::new().unwrap();
        let hosts = BTreeMap::from([("DIPTYCH_HOST".to_owned(), "a.org, b.org".to_owned())]);
        let settings = settings(&["--data", "d"], &hosts, None, &folder).unwrap();
        assert_eq!(settings.host, ["a.org", "b.org"]);
    }
}
