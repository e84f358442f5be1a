use diptych::{
    Filter, Memory, Query,
    testing::{check_determinism, given, nothing_given},
};

use super::*;
use crate::commands::Refused;

fn offered(course: &str, seats: u32) -> School {
    School::Offered(Offered { course: course.to_owned(), seats })
}

fn subscribed(course: &str, student: &str) -> Subscribed {
    Subscribed { course: course.to_owned(), student: student.to_owned() }
}

fn enrolled(student: &str, name: &str) -> Enrolled {
    Enrolled { student: student.to_owned(), name: name.to_owned() }
}

fn subscribe(course: &str, student: &str) -> Subscribe {
    Subscribe { course: course.to_owned(), student: student.to_owned() }
}

#[test]
fn a_full_course_accepts_no_more_students() {
    let full = given([offered("logic", 1)]).and([subscribed("logic", "ann")]);
    full.when(subscribe("logic", "ben")).then_rejected(Refused::Full);
    nothing_given().when(subscribe("logic", "ben")).then_rejected(Refused::NotOffered);
}

#[test]
fn a_student_takes_a_limited_number_of_courses() {
    let busy = given(["a", "b", "c", "d"].map(|course| offered(course, 9)))
        .and(["a", "b", "c"].map(|course| subscribed(course, "ann")));
    let refused = busy.when(subscribe("d", "ann")).then_rejected(Refused::TooManyCourses);
    // The limit does not affect other students.
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

#[test]
fn a_student_is_enrolled_once() {
    let enroll = || Enroll { student: "s7".to_owned(), name: "Ann".to_owned() };
    let there = nothing_given().when(enroll()).then([enrolled("s7", "Ann")]);
    there.when(enroll()).then_rejected(Refused::AlreadyEnrolled);
}

#[test]
fn the_catalogue_combines_courses_and_students() {
    let events = given([offered("logic", 1), offered("music", 3)])
        .and([enrolled("s7", "Ann")])
        .and([subscribed("logic", "s7"), subscribed("music", "s7"), subscribed("music", "s8")]);
    let catalogue: Catalogue = events.state(Filter::everything());
    assert_eq!(Open.answer(&catalogue), [("music".to_owned(), 1)]);
    let seats = |course: &str| FreeSeats { course: course.to_owned() }.answer(&catalogue);
    assert_eq!((seats("music"), seats("dance")), (Some(1), None));
    assert_eq!(Students { course: "music".to_owned() }.answer(&catalogue), ["Ann"]);
}

#[test]
fn the_same_events_give_the_same_catalogue() {
    check_determinism::<Catalogue>([offered("logic", 1), offered("music", 2)]);
}

#[tokio::test]
async fn an_answer_depends_on_the_events_in_its_scope() {
    let app = App::over(Memory::new()).view::<Catalogue>().start().await.unwrap();
    for course in ["logic", "music"] {
        app.execute(Offer { course: course.to_owned(), seats: 5 }).await.unwrap();
        app.execute(subscribe(course, "s7")).await.unwrap();
    }
    app.execute(Enroll { student: "s7".to_owned(), name: "Ann".to_owned() }).await.unwrap();
    let seats = FreeSeats { course: "logic".to_owned() };
    app.check_scope(&seats, app.head()).await.unwrap();
    let students = || Students { course: "logic".to_owned() };
    app.check_scope(&students(), app.head()).await.unwrap();
    assert_eq!(*app.query(students()).strong().await.unwrap(), ["Ann"]);
    assert_eq!(app.explain(seats).await.unwrap().events.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_subscriptions_never_share_a_seat() {
    let app = App::over(Memory::new()).start().await.unwrap();
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
