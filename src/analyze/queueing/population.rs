//! Closed loops with a think time and exponential service, exactly: N clients, each waits Z on average, then needs S.

/// Mean response time and throughput of a closed loop.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Closed {
    /// R̄, in the unit of S and Z.
    pub response_mean: f64,
    /// X, per that unit.
    pub throughput: f64,
}

/// One server, by mean value analysis: R_n = S(1 + Q_{n−1}), X_n = n/(Z + R_n), Q_n = X_n·R_n (Reiser & Lavenberg 1980).
/// `None` without clients, or where nothing takes time.
pub fn mean_value_analysis(clients: u32, service: f64, think: f64) -> Option<Closed> {
    if clients == 0 || service <= 0.0 || think < 0.0 {
        return None;
    }
    let mut queue = 0.0;
    let mut last = Closed { response_mean: 0.0, throughput: 0.0 };
    for n in 1..=clients {
        let response_mean = service * (1.0 + queue);
        let throughput = f64::from(n) / (think + response_mean);
        queue = throughput * response_mean;
        last = Closed { response_mean, throughput };
    }
    Some(last)
}

/// M/M/c//N: several servers, by the birth–death chain of the requests at them. `None` as above.
pub fn machine_repair(servers: u32, clients: u32, service: f64, think: f64) -> Option<Closed> {
    if servers == 0 || clients == 0 || service <= 0.0 || think < 0.0 {
        return None;
    }
    let rate = |busy: u32| f64::from(busy.min(servers)) / service;
    // The weight of k from that of k − 1 is (N − k + 1)/Z over the service rate at k. Without a think time all N are there.
    let mut weights = vec![if think > 0.0 { 1.0 } else { 0.0 }];
    for k in 1..=clients {
        let before = weights[k as usize - 1];
        let up = f64::from(clients - k + 1) / think;
        let next = if think > 0.0 { before * up / rate(k) } else { f64::from(u8::from(k == clients)) };
        weights.push(next);
        if next > 1e200 {
            weights.iter_mut().for_each(|weight| *weight *= 1e-200);
        }
    }
    let total: f64 = weights.iter().sum();
    let served: f64 = weights.iter().zip(0..).map(|(weight, k)| weight * rate(k)).sum();
    let throughput = served / total;
    Some(Closed { response_mean: f64::from(clients) / throughput - think, throughput })
}

#[cfg(test)]
mod tests {
    use super::super::assert_close;
    use super::*;

    #[test]
    fn one_server_as_in_the_textbook() {
        for (clients, service, think, response, throughput) in [
            (1, 0.5, 1.0, 0.5, 0.666_666_67),
            (2, 0.5, 1.0, 0.666_666_67, 1.2),
            (3, 0.5, 1.0, 0.9, 30.0 / 19.0),
            (10, 0.5, 1.0, 4.000_190_96, 1.999_923_62),
            (20, 0.5, 1.0, 9.0, 2.0),
            (20, 1.0, 19.0, 4.088_328_03, 0.866_238_56),
        ] {
            for found in
                [mean_value_analysis(clients, service, think), machine_repair(1, clients, service, think)]
            {
                let found = found.unwrap();
                assert_close(found.response_mean, response, 1e-8);
                assert_close(found.throughput, throughput, 1e-8);
            }
        }
    }

    #[test]
    fn several_servers_by_exact_rationals() {
        for (servers, service, think, response, throughput) in
            [(4, 0.5, 1.0, 1.502_533_34, 7.991_901_51), (4, 1.0, 9.0, 1.052_975_25, 1.989_460_78)]
        {
            let found = machine_repair(servers, 20, service, think).unwrap();
            assert_close(found.response_mean, response, 1e-8);
            assert_close(found.throughput, throughput, 1e-8);
        }
    }

    #[test]
    fn without_think_time_and_with_many_clients() {
        let found = machine_repair(4, 20, 0.1, 0.0).unwrap();
        assert_close(found.throughput, 40.0, 1e-12);
        assert_close(found.response_mean, 0.5, 1e-12);
        let many = machine_repair(4, 20_000, 0.1, 1e-3).unwrap();
        assert_close(many.throughput, 40.0, 1e-12);
        assert_eq!(mean_value_analysis(0, 1.0, 1.0), None);
        assert_eq!(machine_repair(1, 5, 0.0, 0.0), None);
    }
}
