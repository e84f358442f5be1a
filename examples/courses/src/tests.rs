use diptych::testing::{given, nothing_given};

use super::*;

fn offered(course: &str, seats: u32) -> School {
    School::Offered(Offered { course: course.to_owned(), seats })
}

fn subscribed(course: &str, student: &str) -> Subscribed {
    Subscribed { course: course.to_owned(), student: student.to_owned() }
}

fn subscribe(course: &str, student: &str) -> Subscribe {
    Subscribe { course: course.to_owned(), student: student.to_owned() }
}

#[test]
fn a_course_has_so_many_seats() {
    let full = given([offered("logic", 1)]).and([subscribed("logic", "ann")]);
    full.when(subscribe("logic", "ben")).then_rejected(Refused::Full);
    nothing_given().when(subscribe("logic", "ben")).then_rejected(Refused::NotOffered);
}

#[test]
fn a_student_takes_so_many_courses() {
    let busy = given(["a", "b", "c", "d"].map(|course| offered(course, 9)))
        .and(["a", "b", "c"].map(|course| subscribed(course, "ann")));
    let refused = busy.when(subscribe("d", "ann")).then_rejected(Refused::TooManyCourses);
    // Another student is not concerned.
    refused.when(subscribe("d", "ben")).then([subscribed("d", "ben")]);
}

#[test]
fn subscribing_twice_changes_nothing() {
    let once = given([offered("logic", 1)]).and([subscribed("logic", "ann")]);
    once.when(subscribe("logic", "ann")).then_nothing();
}

#[test]
fn a_course_is_offered_once() {
    let offer = Offer { course: "logic".to_owned(), seats: 5 };
    given([offered("logic", 1)]).when(offer).then_rejected(Refused::AlreadyOffered);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_seat_is_given_twice() {
    let app = App::over(diptych::Memory::new()).start().await.unwrap();
    app.execute(Offer { course: "logic".to_owned(), seats: 5 }).await.unwrap();
    let sent: Vec<_> = (0..50)
        .map(|number| app.execute(subscribe("logic", &format!("s{number}"))))
        .map(|execute| tokio::spawn(execute.into_future()))
        .collect();
    let mut subscribed = 0;
    for answer in sent {
        subscribed += usize::from(answer.await.unwrap().is_ok());
    }
    assert_eq!(subscribed, 5);
}
