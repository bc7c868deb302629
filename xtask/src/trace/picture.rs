//! A run as a picture: a lane for each process, solid where it had a processor.

use super::events::{Run, Who, name};

const WIDTH: f64 = 960.0;
const LEFT: f64 = 96.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 96.0;
const LANE: f64 = 44.0;
const BAR: f64 = 20.0;
/// Calls that sleep this long are named, in milliseconds.
const NAMED_MS: f64 = 0.12;

/// A colour for each lane, told apart by those who see few colours too.
fn colour(who: Who) -> &'static str {
    match who {
        Who::Client => "#4477aa",
        Who::Daemon => "#228833",
        Who::ForkServer => "#999933",
        Who::Shim => "#ee6677",
        Who::Container => "#aa3377",
    }
}

/// The picture.
pub(super) fn svg(title: &str, run: &Run) -> String {
    let scale = Scale::of(run);
    let height = TOP + LANE * Who::ALL.len() as f64 + 40.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"{LEFT}\" y=\"18\" font-size=\"14\" fill=\"#222222\">{title}: {:.1} ms</text>\n",
        run.length_ms()
    );
    phases(&mut svg, run, &scale, height);
    lanes(&mut svg, run, &scale);
    axis(&mut svg, &scale, height);
    svg.push_str("</svg>\n");
    svg
}

struct Scale {
    end: f64,
}

impl Scale {
    fn of(run: &Run) -> Scale {
        let last = run.busy.iter().map(|span| span.to).fold(run.length_ms(), f64::max);
        Scale { end: last.min(run.length_ms() * 1.25) }
    }

    fn x(&self, ms: f64) -> f64 {
        LEFT + ms.clamp(0.0, self.end) / self.end * (WIDTH - LEFT - RIGHT)
    }
}

/// Bands behind the lanes, each with its name and what it took.
fn phases(svg: &mut String, run: &Run, scale: &Scale, height: f64) {
    for (at, (phase, from, to)) in run.phases().into_iter().enumerate() {
        let (x, width) = (scale.x(from), scale.x(to) - scale.x(from));
        let fill = if at % 2 == 0 { "#f3f3f3" } else { "#e9eef5" };
        // Names stand one below the other, so that short phases have room for theirs.
        let y = 34.0 + 14.0 * (at % 4) as f64;
        svg.push_str(&format!(
            "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{:.1}\" fill=\"{fill}\"/>\n\
             <text x=\"{:.1}\" y=\"{y:.1}\" fill=\"#444444\">{phase} {:.2}</text>\n",
            TOP - 12.0,
            height - TOP - 12.0,
            x + 2.0,
            to - from
        ));
    }
}

fn lanes(svg: &mut String, run: &Run, scale: &Scale) {
    for (lane, who) in Who::ALL.into_iter().enumerate() {
        let y = TOP + LANE * lane as f64;
        svg.push_str(&format!("<text x=\"6\" y=\"{:.1}\">{}</text>\n", y + 14.0, who.name()));
        for span in run.busy.iter().filter(|span| span.who == who) {
            let (x, width) = (scale.x(span.from), scale.x(span.to) - scale.x(span.from));
            let width = width.max(0.4);
            svg.push_str(&format!(
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BAR}\" \
                 fill=\"{}\"/>\n",
                colour(who)
            ));
        }
        waits(svg, run, scale, who, y + BAR);
    }
}

/// Long calls, under the lane: what they waited for is the kernel's work, not somebody else's.
fn waits(svg: &mut String, run: &Run, scale: &Scale, who: Who, y: f64) {
    let long = run.calls.iter().filter(|span| span.who == who && span.to - span.from > NAMED_MS);
    for span in long {
        let Some(name) = span.call.and_then(name) else { continue };
        if matches!(name, "futex" | "epoll_wait" | "recvfrom" | "accept4" | "recvmsg") {
            continue;
        }
        let (x, to) = (scale.x(span.from), scale.x(span.to));
        svg.push_str(&format!(
            "<line x1=\"{x:.1}\" y1=\"{:.1}\" x2=\"{to:.1}\" y2=\"{:.1}\" stroke=\"#222222\"/>\n\
             <text x=\"{x:.1}\" y=\"{:.1}\" font-size=\"9\" fill=\"#222222\">{name} {:.2}</text>\n",
            y + 3.0,
            y + 3.0,
            y + 13.0,
            span.to - span.from
        ));
    }
}

fn axis(svg: &mut String, scale: &Scale, height: f64) {
    let step = [0.5, 1.0, 2.0, 5.0, 10.0].into_iter().find(|step| scale.end / step < 16.0);
    let step = step.unwrap_or(20.0);
    let y = height - 22.0;
    let mut at = 0.0;
    while at <= scale.end {
        let x = scale.x(at);
        svg.push_str(&format!(
            "<line x1=\"{x:.1}\" y1=\"{:.1}\" x2=\"{x:.1}\" y2=\"{y:.1}\" stroke=\"#888888\"/>\n\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#666666\">{at} ms</text>\n",
            y - 4.0,
            y + 12.0
        ));
        at += step;
    }
}
