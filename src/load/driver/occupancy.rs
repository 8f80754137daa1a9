//! How many requests are in flight, integrated over time: Little's law from the driver's side, with no sample in it.

use crate::load::time::Nanos;

/// Requests in flight and the area under their curve.
#[derive(Debug, Default)]
pub(super) struct Occupancy {
    now: i64,
    at: Nanos,
    /// Requests · ns. Signed, because stamps may come a little out of order; the sum does not mind.
    area: i128,
}

impl Occupancy {
    pub(super) fn enter(&mut self, at: Nanos) {
        self.step(at, 1);
    }

    pub(super) fn leave(&mut self, at: Nanos) {
        self.step(at, -1);
    }

    fn step(&mut self, at: Nanos, by: i64) {
        self.area += i128::from(self.now) * (i128::from(at.0) - i128::from(self.at.0));
        self.at = at;
        self.now += by;
    }

    pub(super) fn area(&self) -> i128 {
        self.area
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_area_is_the_sum_of_the_stays_in_whatever_order_they_are_told() {
        let mut occupancy = Occupancy::default();
        occupancy.enter(Nanos(100));
        occupancy.enter(Nanos(130));
        occupancy.leave(Nanos(150)); // 50 or 20
        occupancy.enter(Nanos(145)); // told late
        occupancy.leave(Nanos(200));
        occupancy.leave(Nanos(160));
        assert_eq!(occupancy.area(), (150 + 200 + 160) - (100 + 130 + 145));
        occupancy.enter(Nanos(300));
        occupancy.leave(Nanos(300)); // as if it had never been
        assert_eq!(occupancy.area(), 135);
    }
}
