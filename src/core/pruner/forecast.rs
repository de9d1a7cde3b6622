//! The pruner for when the winner must survive: a trial is stopped where even a favourable continuation of its own curve
//! would not reach the best final value. The rule and its constants were found on recorded curves of trainings: no peers beyond
//! the incumbent, nothing to calibrate.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::algorithm::{Algorithm, Evidence};
use super::race::Race;
use super::rungs::LATEST;
use crate::core::number::number;
use crate::core::objective::{Direction, Objective, beats};
use crate::core::problem::Problem;
use crate::core::series::{Arrival, Series};
use crate::core::trial::{Phase, Trial};

/// Stops a Trial that cannot be expected to reach the best final value so far, by its own curve seen favourably.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{"message": "warmupSteps must be below maxSteps", "rule": "!has(self.warmupSteps) || !has(self.maxSteps) || self.warmupSteps < self.maxSteps"}]))]
pub struct Settings {
    /// The steps of a whole Trial, in the trainer's own steps. Left out: the highest last step of the Trials that have
    /// succeeded, and none is stopped before the first has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 9007199254740991_i64))]
    pub max_steps: Option<u64>,
    /// Steps before this one are not looked at: for a warm-up in which the curve is flat. Left out: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 9007199254740991_i64))]
    pub warmup_steps: Option<u64>,
    /// Which share of its mean slope so far a Trial is believed to keep up to its end: with more, fewer are stopped. Left out:
    /// 0.25.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1))]
    pub optimism: Option<f64>,
}

/// The forecast pruner.
#[derive(Clone, Debug, PartialEq)]
pub struct Forecast {
    /// The steps of a whole trial; None: as those that succeeded had.
    pub max_steps: Option<u64>,
    /// Steps before this one are not looked at.
    pub warmup_steps: u64,
    /// Which share of its mean slope a trial is believed to keep.
    pub optimism: f64,
}

/// The first rung at which a trial is judged, in reports.
const FIRST: u64 = 3;

/// So many rungs lie below 2^53 reports.
const MOST_RUNGS: i32 = 130;

/// A single value is noise: what counts at a rung is the best of a window that begins at the rung divided by this.
const WINDOW: f64 = 1.732_050_807_568_877_2;

/// The `k`-th rung behind the first: four of them treble the reports.
fn rung(k: i32) -> u64 {
    (FIRST as f64 * libm::pow(3.0, f64::from(k) / 4.0)).round() as u64
}

/// Where a series stands, counted in its own reports.
#[derive(Clone, Copy)]
struct Scale {
    /// The step of the first report that is looked at.
    origin: f64,
    /// Steps from report to report.
    spacing: f64,
}

impl Scale {
    /// How many reports lie at or before `step`.
    fn reports(self, step: u64) -> f64 {
        (step as f64 - self.origin) / self.spacing + 1.0
    }

    fn step(self, reports: f64) -> f64 {
        self.origin + (reports - 1.0) * self.spacing
    }
}

impl Forecast {
    fn origin(&self, series: &Series) -> Option<u64> {
        Some(series.first_step()?.max(self.warmup_steps))
    }

    fn scale(&self, series: &Series) -> Option<Scale> {
        let (first, last) = (series.first_step()?, series.last_step()?);
        let spacing = match series.count() {
            0 | 1 => 1.0,
            count => (last - first) as f64 / (count - 1) as f64,
        };
        // Many reports of one step are as many of the same.
        Some(Scale { origin: self.origin(series)? as f64, spacing: if spacing > 0.0 { spacing } else { 1.0 } })
    }

    /// The scale as it was at an arrival.
    fn scale_then(&self, series: &Series, arrival: &Arrival) -> Option<Scale> {
        let origin = self.origin(series)? as f64;
        let reports = arrival.rung.saturating_sub(1).max(1) as f64;
        let spacing = (arrival.step as f64 - origin) / reports;
        Some(Scale { origin, spacing: if spacing > 0.0 { spacing } else { 1.0 } })
    }

    /// The values from the window of `rung` up to `step`.
    fn window<'a>(&self, series: &'a Series, scale: Scale, rung: u64, step: u64) -> impl Iterator<Item = f64> + 'a {
        let begin = scale.step(rung as f64 / WINDOW);
        let warmup = self.warmup_steps;
        let within = move |(at, _): &&(u64, f64)| *at <= step && *at >= warmup && (*at as f64 > begin || *at == step);
        series.points().iter().filter(within).map(|(_, value)| *value)
    }

    /// Before any trial has succeeded: the best that another running trial has never fallen below in the rung's window.
    fn stand_in(&self, race: &Race, trial: &Trial, arrival: &Arrival) -> Option<f64> {
        let direction = race.problem.objective.direction;
        let was_running = |other: &&Trial| !other.phase.is_finished() || other.completed > Some(arrival.at);
        let others = race.history.iter().filter(|other| other.index != trial.index).filter(was_running);
        let floor = |other: &Trial| {
            let known = |there: &&Arrival| there.at <= arrival.at && there.rung <= arrival.rung;
            let there = other.series.arrivals().iter().rfind(known)?;
            let scale = self.scale_then(&other.series, there)?;
            let worse = |a: f64, b: f64| if beats(direction, a, b) { b } else { a };
            self.window(&other.series, scale, arrival.rung, there.step).reduce(worse)
        };
        others.filter_map(floor).reduce(|a, b| if beats(direction, b, a) { b } else { a })
    }
}

impl Algorithm for Forecast {
    type Settings = Settings;
    const NAME: &'static str = "forecast";
    const KEEPS_ARRIVALS: bool = true;

    fn problems(settings: &Settings) -> Vec<(&'static str, String)> {
        match (settings.warmup_steps, settings.max_steps) {
            (Some(warmup), Some(max)) if warmup >= max => {
                vec![("warmupSteps", format!("warmupSteps {warmup} must be below maxSteps {max}"))]
            }
            _ => Vec::new(),
        }
    }

    fn new(settings: &Settings) -> Forecast {
        Forecast {
            max_steps: settings.max_steps,
            warmup_steps: settings.warmup_steps.unwrap_or(0),
            optimism: settings.optimism.unwrap_or(0.25),
        }
    }

    fn max_steps(&self) -> Option<u64> {
        self.max_steps
    }

    /// Rungs count reports: where steps come by thousands, as many of them make a curve as where they come one by one.
    fn rung(&self, series: &Series) -> Option<u64> {
        let last = series.last_step()?;
        let reports = self.scale(series)?.reports(last);
        if last < self.warmup_steps || reports < 1.0 {
            return None;
        }
        // A third of the first rungs: slopes begin there.
        let all = [1, 2].into_iter().chain((0..MOST_RUNGS).map(rung));
        all.take_while(|rung| *rung as f64 <= reports + 1e-6).last()
    }

    /// The best value of the rung's window.
    fn shows(&self, objective: &Objective, series: &Series, rung: u64) -> Option<f64> {
        let better = |a: f64, b: f64| if beats(objective.direction, b, a) { b } else { a };
        if series.diverged().is_some() {
            return None;
        }
        self.window(series, self.scale(series)?, rung, series.last_step()?).reduce(better)
    }

    /// Why nothing can ever be stopped, as far as the trials have shown: they end before the first rung.
    fn obstacle(&self, _: &Problem, history: &[Trial]) -> Option<String> {
        let ended: Vec<&Trial> = history.iter().filter(|trial| trial.phase == Phase::Succeeded).take(3).collect();
        let reports = |trial: &&Trial| {
            let series = &trial.series;
            Some(self.scale(series)?.reports(series.last_step()?))
        };
        let most = ended.iter().filter_map(reports).fold(0.0, f64::max).max(0.0).round();
        (ended.len() == 3 && most <= FIRST as f64)
            .then(|| format!("trials end after {most} reports, and a forecast needs more than {FIRST}"))
    }

    fn waits(&self, _: &Problem, history: &[Trial]) -> Option<String> {
        let shows = |trial: &Trial| trial.phase == Phase::Succeeded && trial.series.last_step().is_some();
        (self.max_steps.is_none() && !history.iter().any(shows))
            .then(|| "the first trial that succeeds shows how long one takes (maxSteps)".to_owned())
    }

    fn verdict(&self, race: &mut Race, trial: &Trial, arrival: &Arrival) -> Option<(Evidence, String)> {
        let max_steps = self.max_steps.or_else(|| race.last_step(arrival.at))?;
        if arrival.rung < FIRST || arrival.step as f64 > LATEST * max_steps as f64 {
            return None;
        }
        let direction = race.problem.objective.direction;
        let (bar, whose) = match race.incumbent(arrival.at) {
            Some(incumbent) => (incumbent, "the best final value"),
            None => (self.stand_in(race, trial, arrival)?, "what a running trial holds"),
        };
        let evidence = |forecast| Evidence { cutoff: Some(bar), forecast, ..Evidence::default() };
        let Some(value) = arrival.value else {
            return Some((evidence(None), "not a number".to_owned()));
        };
        if !beats(direction, bar, value) {
            return None;
        }
        let earlier = (arrival.rung as f64 / 3.0).round().max(1.0) as u64;
        let earlier = trial.series.arrivals().iter().rfind(|before| before.rung <= earlier)?;
        let scale = self.scale_then(&trial.series, arrival)?;
        let gain = match direction {
            Direction::Maximize => value - earlier.value?,
            Direction::Minimize => earlier.value? - value,
        };
        let slope = gain.max(0.0) / (arrival.rung - earlier.rung) as f64;
        let left = (max_steps - arrival.step) as f64 / scale.spacing;
        let further = self.optimism * slope * left;
        let forecast = match direction {
            Direction::Maximize => value + further,
            Direction::Minimize => value - further,
        };
        beats(direction, bar, forecast).then(|| {
            let message = format!(
                "{}, which would become {} at best by step {max_steps}, worse than {whose} {}",
                number(value),
                number(forecast),
                number(bar)
            );
            (evidence(Some(forecast).filter(|forecast| forecast.is_finite())), message)
        })
    }
}
