//! What has been heard of a festival so far, and what a screen makes of it: means over seconds, sums over a minute.

use std::collections::VecDeque;

use crate::live::Festival;
use crate::live::cashless::CashPoint;
use crate::live::snapshot::{Point, Snapshot};

use crate::cli::top::feed::News;

/// As many seconds as the server gives.
const POINTS_MAX: usize = 600;
/// Over how many seconds a rate is the mean.
pub(super) const MEAN_S: f64 = 10.0;
/// Over how many seconds sales are told.
pub(super) const MINUTE_S: f64 = 60.0;

/// How the stream is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// Nothing has come yet.
    Connecting,
    /// It comes.
    Live,
    /// It was lost, and why.
    Lost(String),
    /// The server has said no.
    Refused(String),
}

/// One festival, as far as its stream has told.
pub struct Watch {
    /// Its name in addresses.
    pub slug: String,
    /// Which it is.
    pub festival: Option<Festival<'static>>,
    /// How it stands.
    pub now: Option<Snapshot>,
    /// How the stream is.
    pub link: Link,
    points: VecDeque<Point>,
}

impl Watch {
    /// Nothing is known yet.
    pub fn of(slug: &str) -> Self {
        let (slug, points) = (slug.to_owned(), VecDeque::with_capacity(POINTS_MAX));
        Self { slug, festival: None, now: None, link: Link::Connecting, points }
    }

    /// Something has come.
    pub fn take(&mut self, news: News) {
        match news {
            News::History(history) => {
                // A server that has just restarted knows less of the past than this.
                let since = history.points.first().map_or(history.now.at, |point| point.at);
                self.points.retain(|point| point.at < since);
                history.points.into_iter().for_each(|point| self.push(point));
                (self.festival, self.now) = (Some(history.festival), Some(history.now));
                self.link = Link::Live;
            }
            News::Second(second) => {
                self.push(second.point);
                self.now = Some(second.now);
                self.link = Link::Live;
            }
            News::Lost(why) => self.link = Link::Lost(why),
            News::No(why) => self.link = Link::Refused(why),
        }
    }

    /// Whether there is a second to tell a rate from.
    pub fn has_points(&self) -> bool {
        !self.points.is_empty()
    }

    fn push(&mut self, point: Point) {
        if self.points.len() == POINTS_MAX {
            self.points.pop_front();
        }
        self.points.push_back(point);
    }

    /// How much of something there was per second, as the mean of the newest `seconds`; `None` before the first.
    pub(super) fn rate(&self, seconds: f64, of: impl Fn(&Point) -> u64) -> Option<f64> {
        let (mut sum, mut span_s) = (0, 0.0);
        for point in self.points.iter().rev() {
            sum += of(point);
            span_s += f64::from(point.span_ms) / 1_000.0;
            if span_s >= seconds {
                break;
            }
        }
        (span_s > 0.0).then(|| sum as f64 / span_s.max(1.0))
    }

    /// The same of the money.
    pub(super) fn cash_rate(&self, seconds: f64, of: impl Fn(&CashPoint) -> u64) -> Option<f64> {
        self.rate(seconds, |point| point.cash.as_ref().map_or(0, &of))
    }

    /// The newest values of something per second, oldest first, each the mean of ten seconds, `count` of them.
    pub(super) fn line(&self, count: usize, of: impl Fn(&Point) -> u64) -> Vec<u64> {
        let skip = self.points.len().saturating_sub(count + MEAN_S as usize);
        let values: Vec<u64> = self.points.iter().skip(skip).map(of).collect();
        let mean = |i: usize| {
            let from = i.saturating_sub(MEAN_S as usize - 1);
            // Ten times the mean: a sparkline knows whole numbers only, and a quiet bar sells less than one a second.
            values[from..=i].iter().sum::<u64>() * MEAN_S as u64 / (i - from + 1) as u64
        };
        let first = values.len().saturating_sub(count);
        (first..values.len()).map(mean).collect()
    }
}
