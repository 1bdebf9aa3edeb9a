//! Reference, engine and dataplane agree on random cases; and a reference with a mistake is caught.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod agree;
mod mistakes;
mod sentences;

/// Each sentence by the model of the kernel; the lab's tests send the same packets through a kernel.
#[test]
fn every_sentence_holds_in_the_model() {
    use caracal_policy_fuzz::{Case, Model, Reference, check};
    for (name, sentence) in sentences::ALL {
        println!("-- {name}");
        let mut judge = |case: &Case| {
            let (_, difference) = check(case, &mut Model::default()).unwrap();
            if let Some(difference) = difference {
                panic!("{name}: {difference}\n{}", case.to_yaml());
            }
            Reference::new(case, None).allows(&case.trips[0])
        };
        sentence(&mut sentences::World::new(&mut judge));
    }
}
