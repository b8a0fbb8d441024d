//! Which worker is replaced next. Pure: from how things stand to the next step, whatever led there.
//!
//! One at a time, and the new one is ready before the old one is told to finish. So there are never fewer workers
//! than configured, never more than one beyond that, and a crash in the middle needs no case of its own.

use super::slot::State;

/// A worker's place: its process, or where the next one will be.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Number of the worker, from 1. During a reload two places may have the same.
    pub number: u32,
    /// Which configuration and which image of the application it runs.
    pub generation: u32,
    /// Where its slot stands.
    pub state: &'a State,
}

/// What all workers are to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Generation of all of them.
    pub generation: u32,
    /// How many.
    pub processes: u32,
}

/// What to do next; an index is one into the places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Open a place of the target's generation with this number.
    Start(u32),
    /// Wait until the worker at this index is ready.
    AwaitReady(usize),
    /// Tell the worker at this index to finish: another has taken its place, or it is one too many.
    Retire(usize),
    /// Wait until the worker at this index has ended.
    AwaitEnd(usize),
    /// Everything is as it should be.
    Done,
}

/// The next step towards the target.
pub fn next(places: &[Place<'_>], target: Target) -> Step {
    let find = |wanted: &dyn Fn(&Place<'_>) -> bool| places.iter().position(wanted);
    let new = |place: &Place<'_>| place.generation == target.generation;
    let taken = |number: u32| places.iter().any(|place| new(place) && place.number == number);
    if let Some(index) = find(&|place| *place.state == State::Draining) {
        return Step::AwaitEnd(index);
    }
    let not_ready = |place: &Place<'_>| matches!(place.state, State::Starting | State::Waiting { .. });
    if let Some(index) = find(&|place| new(place) && place.number <= target.processes && not_ready(place)) {
        return Step::AwaitReady(index);
    }
    if let Some(index) = find(&|place| !new(place) && taken(place.number)) {
        return Step::Retire(index);
    }
    if let Some(number) = (1..=target.processes).find(|number| !taken(*number)) {
        return Step::Start(number);
    }
    match find(&|place| place.number > target.processes) {
        Some(index) => Step::Retire(index),
        None => Step::Done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    /// Number, generation, state.
    type Row<'a> = (u32, u32, &'a State);

    #[test]
    fn table() {
        let waiting = State::Waiting { until: Instant::now() };
        let halted = State::Halted { reason: "exit 78".to_owned() };
        let (starting, ready, draining) = (State::Starting, State::Ready, State::Draining);
        let table: [(&str, &[Row<'_>], Step); 12] = [
            ("nothing yet", &[(1, 1, &ready), (2, 1, &ready)], Step::Start(1)),
            ("first starts", &[(1, 1, &ready), (2, 1, &ready), (1, 2, &starting)], Step::AwaitReady(2)),
            ("it has crashed", &[(1, 1, &ready), (2, 1, &ready), (1, 2, &waiting)], Step::AwaitReady(2)),
            ("it is ready", &[(1, 1, &ready), (2, 1, &ready), (1, 2, &ready)], Step::Retire(0)),
            ("the old one has crashed", &[(1, 1, &waiting), (2, 1, &ready), (1, 2, &ready)], Step::Retire(0)),
            ("the old one had halted", &[(1, 1, &halted), (2, 1, &ready), (1, 2, &ready)], Step::Retire(0)),
            ("the old one finishes", &[(1, 1, &draining), (2, 1, &ready), (1, 2, &ready)], Step::AwaitEnd(0)),
            ("the second's turn", &[(2, 1, &ready), (1, 2, &ready)], Step::Start(2)),
            ("a moved one has crashed", &[(2, 1, &ready), (1, 2, &waiting)], Step::AwaitReady(1)),
            ("one too many", &[(3, 1, &ready), (1, 2, &ready), (2, 2, &ready)], Step::Retire(0)),
            ("another one too many", &[(1, 2, &ready), (2, 2, &ready), (3, 2, &starting)], Step::Retire(2)),
            ("done", &[(1, 2, &ready), (2, 2, &halted)], Step::Done),
        ];
        for (name, places, step) in table {
            let places: Vec<Place<'_>> =
                places.iter().map(|&(number, generation, state)| Place { number, generation, state }).collect();
            assert_eq!(next(&places, Target { generation: 2, processes: 2 }), step, "{name}");
        }
    }
}
