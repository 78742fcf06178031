//! Making a failing scenario smaller while it still fails.

use crate::scenario::{Deed, Proc, Program, Reaction, Scenario};

/// The smallest scenario that can be reached by leaving things out, one at a time.
pub fn smallest(scenario: &Scenario, fails: impl Fn(&Scenario) -> bool) -> Scenario {
    let mut smallest = scenario.clone();
    'again: loop {
        for candidate in smaller(&smallest) {
            if fails(&candidate) {
                smallest = candidate;
                continue 'again;
            }
        }
        return smallest;
    }
}

fn without<T: Clone>(list: &[T]) -> impl Iterator<Item = Vec<T>> + '_ {
    (0..list.len()).map(|place| {
        let mut rest = list.to_vec();
        rest.remove(place);
        rest
    })
}

fn smaller(of: &Scenario) -> Vec<Scenario> {
    let mut all = Vec::new();
    all.extend(without(&of.outside).map(|outside| Scenario { outside, ..of.clone() }));
    all.extend(without(&of.post_stop).map(|post_stop| Scenario { post_stop, ..of.clone() }));
    all.extend(without(&of.pre_stop).map(|pre_stop| Scenario { pre_stop, ..of.clone() }));
    all.extend(without(&of.failing_forks).map(|failing_forks| Scenario { failing_forks, ..of.clone() }));
    if of.stranger {
        all.push(Scenario { stranger: false, ..of.clone() });
    }
    if of.proc != Proc::Full {
        all.push(Scenario { proc: Proc::Full, ..of.clone() });
    }
    if of.pid_max != 32_768 {
        all.push(Scenario { pid_max: 32_768, ..of.clone() });
    }
    if of.crowd > 0 {
        all.push(Scenario { crowd: 0, ..of.clone() });
        all.push(Scenario { crowd: of.crowd / 2, ..of.clone() });
    }
    if of.teardown > 0 {
        all.push(Scenario { teardown: 0, ..of.clone() });
    }
    if of.call_takes != 1 {
        all.push(Scenario { call_takes: 1, ..of.clone() });
    }
    // Options stand with their value behind them.
    let values = |place: usize| of.options.get(place + 1).is_some_and(|next| !next.starts_with("--"));
    for place in (0..of.options.len()).filter(|place| of.options[*place].starts_with("--")) {
        let mut options = of.options.clone();
        options.drain(place..=place + usize::from(values(place)));
        all.push(Scenario { options, ..of.clone() });
    }
    all.extend(smaller_programs(&of.command).into_iter().map(|command| Scenario { command, ..of.clone() }));
    for (place, program) in of.pre_stop.iter().enumerate() {
        for program in smaller_programs(program) {
            let mut smaller = of.clone();
            smaller.pre_stop[place] = program;
            all.push(smaller);
        }
    }
    for (place, program) in of.post_stop.iter().enumerate() {
        for program in smaller_programs(program) {
            let mut smaller = of.clone();
            smaller.post_stop[place] = program;
            all.push(smaller);
        }
    }
    for place in 0..of.outside.len() {
        if of.outside[place].0 > 1_000_000 {
            let mut smaller = of.clone();
            smaller.outside[place].0 /= 2;
            all.push(smaller);
        }
    }
    all
}

fn smaller_programs(of: &Program) -> Vec<Program> {
    let mut all = Vec::new();
    all.extend(without(&of.deeds).map(|deeds| Program { deeds, ..of.clone() }));
    all.extend(without(&of.on).map(|on| Program { on, ..of.clone() }));
    if of.exec_takes > 0 {
        all.push(Program { exec_takes: 0, ..of.clone() });
    }
    if of.exec_fails || of.other_user || of.hidden || of.dies_late > 0 {
        all.push(Program { exec_fails: false, ..of.clone() });
        all.push(Program { other_user: false, ..of.clone() });
        all.push(Program { hidden: false, ..of.clone() });
        all.push(Program { dies_late: 0, ..of.clone() });
        all.retain(|candidate| candidate != of);
    }
    for (place, (_, deed)) in of.deeds.iter().enumerate() {
        if let Deed::Fork(child) = deed {
            for child in smaller_programs(child) {
                let mut smaller = of.clone();
                smaller.deeds[place].1 = Deed::Fork(Box::new(child));
                all.push(smaller);
            }
        }
        if of.deeds[place].0 > 0 {
            let mut smaller = of.clone();
            smaller.deeds[place].0 = 0;
            all.push(smaller);
        }
    }
    for (place, (_, reaction)) in of.on.iter().enumerate() {
        let child = match reaction {
            Reaction::Fork(child) | Reaction::ForkAndExit(child, _, _) => child,
            Reaction::Ignore | Reaction::Exit(..) => continue,
        };
        for child in smaller_programs(child) {
            let mut smaller = of.clone();
            smaller.on[place].1 = match reaction {
                Reaction::ForkAndExit(_, after, code) => {
                    Reaction::ForkAndExit(Box::new(child), *after, *code)
                }
                _ => Reaction::Fork(Box::new(child)),
            };
            all.push(smaller);
        }
    }
    all
}
