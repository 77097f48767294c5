//! What an operator settles: addresses, screens, providers, exercises.

use std::net::SocketAddr;
use std::path::PathBuf;

use campanile_alert::ExerciseId;
use serde::Deserialize;

/// The configuration of a gateway's channels, as it stands in YAML.
///
/// ```yaml
/// http: 127.0.0.1:8080
/// public-url: https://alerts.example.gov.hk
/// estates: gateway/data/harbour-view-estates.json
/// screen-margin-m: 300
/// channels:
/// - mqtt: {url: "mqtt://127.0.0.1:1883", owner: ha}
/// exercises: {http: 127.0.0.1:8081, ids: [hv26]}
/// ```
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// Where the public feeds and screens are served; port 0 takes a free one.
    pub http: SocketAddr,
    /// The address that the public reaches it under, without a slash at the end; absent means `http://` and the
    /// address it listens on.
    #[serde(default)]
    pub public_url: Option<String>,
    /// The data set of estates; absent means that there are no screens.
    #[serde(default)]
    pub estates: Option<PathBuf>,
    /// How far from an alert's area a block still shows it, in metres, 0 to 50,000. An estate has one position, so a
    /// few hundred metres stand for its extent.
    #[serde(default = "screen_margin_m")]
    pub screen_margin_m: f64,
    /// Providers beyond the feed and the screens' pages.
    #[serde(default)]
    pub channels: Vec<ChannelConfig>,
    /// The exercises that this gateway shows to their participants; absent means none.
    #[serde(default)]
    pub exercises: Option<ExercisesConfig>,
}

/// One provider.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChannelConfig {
    /// A broker that lift screens listen to.
    Mqtt(MqttConfig),
}

/// A broker for screens.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MqttConfig {
    /// `mqtt://host:port`; for TLS `mqtts://host:port`.
    pub url: String,
    /// The owner of the screens, as it stands in their topics: lower-case letters, digits and hyphens.
    pub owner: String,
    /// The CA certificates that the broker's certificate is checked against, a PEM file; needed for `mqtts`.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// The user name; absent means none.
    #[serde(default)]
    pub username: Option<String>,
    /// The file that holds the password; absent means none.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
}

/// Sinks bound to exercises. They have a listener of their own, so the public address has no path to a drill.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ExercisesConfig {
    /// Where they are served; port 0 takes a free one.
    pub http: SocketAddr,
    /// The exercises.
    pub ids: Vec<ExerciseId>,
}

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not the YAML that is wanted.
    #[error("the gateway's configuration is not readable: {0}")]
    Yaml(String),
    /// A number is out of range.
    #[error("screen-margin-m is {0}; give 0 to 50000 metres")]
    Margin(f64),
    /// More exercises than a gateway can state.
    #[error("exercises names {0} exercises; name {max} at most", max = campanile_discovery::hint::SINKS_MAX)]
    Exercises(usize),
    /// The public URL is not one.
    #[error("public-url {0:?} is not usable; write http:// or https:// and a host, without a slash at the end")]
    PublicUrl(String),
}

impl Config {
    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// [`Error`] when it is not readable or a value is out of range.
    pub fn parse(yaml: &str) -> Result<Self, Error> {
        let config: Self = serde_saphyr::from_str(yaml).map_err(|error| Error::Yaml(error.to_string()))?;
        config.check()?;
        Ok(config)
    }

    /// A configuration with the feed alone, and screens for `estates` if that is given.
    pub fn new(http: SocketAddr, estates: Option<PathBuf>) -> Self {
        Self {
            http,
            public_url: None,
            estates,
            screen_margin_m: screen_margin_m(),
            channels: Vec::new(),
            exercises: None,
        }
    }

    /// Checks the values.
    ///
    /// # Errors
    /// [`Error`] when one is out of range.
    pub fn check(&self) -> Result<(), Error> {
        if !(0.0..=50_000.0).contains(&self.screen_margin_m) {
            return Err(Error::Margin(self.screen_margin_m));
        }
        let exercises = self.exercises.as_ref().map_or(0, |exercises| exercises.ids.len());
        if exercises > campanile_discovery::hint::SINKS_MAX {
            return Err(Error::Exercises(exercises));
        }
        if let Some(url) = &self.public_url {
            let is_http = url.starts_with("http://") || url.starts_with("https://");
            let is_plain = url.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '"' | '<' | '>' | '\''));
            if !is_http || !is_plain || url.ends_with('/') {
                return Err(Error::PublicUrl(url.clone()));
            }
        }
        Ok(())
    }
}

fn screen_margin_m() -> f64 {
    300.0
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_configuration_is_read() {
        let yaml = "http: 127.0.0.1:0\npublic-url: https://alerts.example.hk\nscreen-margin-m: 250\nchannels:\n- mqtt: \
                    {url: \"mqtt://127.0.0.1:1883\", owner: ha}\nexercises: {http: 127.0.0.1:0, ids: [hv26]}\n";
        let config = Config::parse(yaml).expect("a configuration");
        assert_eq!(config.channels.len(), 1);
        assert!(Config::parse("http: 127.0.0.1:0\n").is_ok());
    }

    #[test]
    fn what_is_misspelt_or_out_of_range_is_refused() {
        for bad in [
            "",
            "http: nowhere",
            "http: 127.0.0.1:0\nhtpp: 1",
            "http: 127.0.0.1:0\nscreen-margin-m: -1",
            "http: 127.0.0.1:0\nscreen-margin-m: .nan",
            "http: 127.0.0.1:0\npublic-url: \"https://x.example/\"",
            "http: 127.0.0.1:0\npublic-url: \"javascript:1\"",
            "http: 127.0.0.1:0\nchannels: [{fax: {}}]",
        ] {
            assert!(Config::parse(bad).is_err(), "{bad:?} was accepted");
        }
    }
}
