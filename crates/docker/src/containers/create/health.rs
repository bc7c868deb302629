//! `Healthcheck`: times are in nanoseconds, 0 is as the image says.

use std::time::Duration;

use engine::{HealthCheck, HealthTest};

use crate::{error::ApiError, fields::Fields};

pub(super) fn read(
    body: &mut Fields<'_>,
    shell: Option<Vec<String>>,
) -> Result<Option<HealthCheck>, ApiError> {
    let mut given = body.object("Healthcheck")?;
    let test: Vec<String> = given.take("Test")?;
    let mut time = |name| given.above_zero(name).map(|nanos| nanos.map(Duration::from_nanos));
    let (interval, timeout) = (time("Interval")?, time("Timeout")?);
    let (start_period, start_interval) = (time("StartPeriod")?, time("StartInterval")?);
    let retries = given.above_zero("Retries")?;
    let retries = retries.map(|most| u32::try_from(most).unwrap_or(u32::MAX));
    match test.first().map(String::as_str) {
        None | Some("NONE" | "CMD" | "CMD-SHELL") => {}
        // As with Docker, which says so too.
        Some(other) => {
            let why = format!(
                "Unknown healthcheck type '{other}' (expected 'CMD'): use CMD, CMD-SHELL or NONE"
            );
            return Err(given.wrong("Test", why));
        }
    }
    given.done()?;
    let test = HealthTest::from_words(&test);
    let check =
        HealthCheck { test, interval, timeout, start_period, start_interval, retries, shell: None };
    match check == HealthCheck::default() {
        true => Ok(None),
        false => Ok(Some(HealthCheck { shell, ..check })),
    }
}
