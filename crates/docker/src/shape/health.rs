//! A container's health as `inspect` shows it.

use std::time::Duration;

use serde::Serialize;

use crate::time;

/// Docker's `Health`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Health {
    status: &'static str,
    failing_streak: u32,
    log: Vec<Result>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Result {
    start: String,
    end: String,
    exit_code: i32,
    output: String,
}

impl Health {
    pub(super) fn of(health: &engine::Health) -> Health {
        let result = |result: &engine::HealthResult| Result {
            start: time::rfc3339(Some(result.began)),
            end: time::rfc3339(Some(result.ended)),
            exit_code: result.code,
            output: result.output.clone(),
        };
        Health {
            status: health.status.word(),
            failing_streak: health.streak,
            log: health.results.iter().map(result).collect(),
        }
    }
}

/// Docker's `HealthConfig`: times in nanoseconds, what is not said is left out.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Check {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    test: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interval: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_period: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_interval: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retries: Option<u32>,
}

impl Check {
    pub(super) fn of(check: &engine::HealthCheck) -> Check {
        let time = |time: Option<Duration>| {
            time.map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
        };
        Check {
            test: check.test.to_words(),
            interval: time(check.interval),
            timeout: time(check.timeout),
            start_period: time(check.start_period),
            start_interval: time(check.start_interval),
            retries: check.retries,
        }
    }
}
