//! What a container uses, once or every second.

use std::time::Duration;

use base::clock::Timestamp;
use bytes::Bytes;
use engine::{Engine, StatsQuery};
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::{
    body::{self, Broken},
    call::Call,
    error::ApiError,
    reply::{self, Answer},
    shape::stats::{Look, Moment, counters},
};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// Who is looked at, and what was seen the last time.
struct Watch {
    engine: Engine,
    who: String,
    before: Option<Moment>,
    ticks: Interval,
}

impl Watch {
    /// A look; `None` if the container is gone.
    async fn look(&mut self) -> Result<Option<Bytes>, ApiError> {
        let query = StatsQuery { who: vec![self.who.clone()], all: true };
        let stats = self.engine.stats(&query).await?;
        let Some(container) = stats.containers.first() else { return Ok(None) };
        let look = Look { container, host: &stats.host, before: self.before.as_ref() };
        let line = reply::line(&counters(&look))?;
        self.before = look.moment(Timestamp::now()).or(self.before.take());
        Ok(Some(line))
    }
}

/// `GET /containers/{}/stats`.
pub(crate) async fn stats(call: Call) -> Answer {
    let container = call.engine().inspect(&call.name)?;
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (engine, who) = (call.engine().clone(), container.id.as_str().to_owned());
    let mut watch = Watch { engine, who, before: None, ticks };
    let one_shot = call.query.flag("one-shot");
    if call.query.flag_or("stream", true) {
        if one_shot {
            return Err(ApiError::bad("cannot have stream=true and one-shot=true"));
        }
        return Ok(reply::json_stream(body::parts(watch, |mut watch| async move {
            watch.ticks.tick().await;
            let part = watch.look().await.map_err(Broken::from).transpose()?;
            Some((part, watch))
        })));
    }
    watch.ticks.tick().await;
    let mut line = watch.look().await?;
    // A share of processor time is had of two looks; who wants only one computes it elsewhere.
    if !one_shot && watch.before.is_some() {
        watch.ticks.tick().await;
        line = watch.look().await?;
    }
    let gone = || ApiError::missing(format!("No such container: {}", call.name));
    Ok(reply::json_stream(body::full(line.ok_or_else(gone)?)))
}
