//! When something is tried again, and when not. Pure.

use std::time::Duration;

/// Tries of one request, the first included.
pub(crate) const TRIES_MAX: u32 = 5;
/// Tries where nobody answers at all: a name that does not resolve will not soon.
pub(crate) const CONNECTS_MAX: u32 = 3;
/// The first wait; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// Longest wait, also where a registry asks for more.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// How long to wait before try `tries + 1`, or `None` to give up.
pub(crate) fn wait(tries: u32, most: u32, asked: Option<Duration>) -> Option<Duration> {
    if tries >= most {
        return None;
    }
    let own = FIRST_WAIT * 2_u32.saturating_pow(tries.saturating_sub(1).min(10));
    match asked {
        Some(asked) if asked > WAIT_MAX => None,
        Some(asked) => Some(asked.max(own).min(WAIT_MAX)),
        None => Some(own.min(WAIT_MAX)),
    }
}

/// Whether a status may be another one the next time.
pub(crate) fn passes(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_end() {
        let waits: Vec<_> = (1..=TRIES_MAX).map(|tries| wait(tries, TRIES_MAX, None)).collect();
        let ms = |ms| Some(Duration::from_millis(ms));
        assert_eq!(waits, [ms(200), ms(400), ms(800), ms(1600), None]);
        assert_eq!(wait(1, 5, ms(2000)), ms(2000));
        assert_eq!(wait(1, 5, Some(Duration::from_secs(3600))), None);
        assert!(passes(503) && passes(429) && !passes(404) && !passes(501));
    }
}
