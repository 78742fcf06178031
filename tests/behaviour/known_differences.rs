//! Where the peers do otherwise, each with its reason. A row is itself tested: the test must fail on that peer.

use crate::support::{Face, Subject};

/// How a test relates to a peer.
#[derive(Clone, Copy)]
pub enum Difference {
    /// The test fails on the peer, for this reason.
    Differs(&'static str),
    /// The test has no meaning for the peer, for this reason.
    NotApplicable(&'static str),
}
use Difference::{Differs, NotApplicable};
use Face::{DumbInit, Tini};

/// The row for this test on this subject.
pub fn difference(test: &str, subject: Subject) -> Option<Difference> {
    let Subject::Peer(face) = subject else { return None };
    // docker-init is tini.
    let face = if face == Face::DockerInit { Tini } else { face };
    ROWS.iter().find(|(name, peer, _)| *name == test && *peer == face).map(|(_, _, row)| *row)
}

const EXEC_FAILURE: Difference = Differs("a failed exec gives 2");
const NO_REWRITES: Difference = NotApplicable("no rewriting");
const NO_GRACE: Difference = NotApplicable("no --leftover-grace");
const LOST: Difference = Differs("a signal that comes before the group exists is lost");
const BY_LUCK: Difference = NotApplicable("whether an early signal is lost depends on the moment");
const LEAVES_AT_ONCE: Difference = Differs("leaves as soon as the command is gone");
const NO_SOCKET: Difference = Differs("has nothing to ask");
const NO_VALUE: Difference = Differs("a relayed signal loses its value");
const SENT_TWICE: Difference = NotApplicable("relays the terminal's signal too, and both may melt into one");
const FAULTS: Difference = Differs("fault signals are not relayed");
const NOT_STOPPED: Difference = Differs("ignores or passes on the signals that suspend");

#[rustfmt::skip]
const ROWS: &[(&str, Face, Difference)] = &[
    ("an_interactive_shell_ends_at_a_stop_though_it_ignores_sigterm", DumbInit, NotApplicable("no --grace")),
    ("an_interactive_shell_that_is_left_behind_ends_without_sigkill", DumbInit, NO_GRACE),
    ("a_daemon_that_ignores_sigterm_is_not_hung_up", DumbInit, NO_GRACE),
    ("an_interactive_shell_ends_at_a_stop_though_it_ignores_sigterm", Tini, NotApplicable("no --grace")),
    ("an_interactive_shell_that_is_left_behind_ends_without_sigkill", Tini, NO_GRACE),
    ("a_daemon_that_ignores_sigterm_is_not_hung_up", Tini, NO_GRACE),
    ("a_command_that_does_not_exist_gives_127_and_names_it", DumbInit, EXEC_FAILURE),
    ("a_file_that_is_not_executable_gives_126_and_names_it", DumbInit, EXEC_FAILURE),
    ("a_directory_as_the_command_gives_126", DumbInit, EXEC_FAILURE),
    ("a_missing_script_interpreter_gives_127_and_is_named", DumbInit, EXEC_FAILURE),
    ("a_status_can_be_reported_as_success", DumbInit, NotApplicable("no -e")),
    ("our_own_usage_errors_give_125", DumbInit, Differs("a usage error gives 1")),
    ("rewriting_takes_names_and_real_time_signals", DumbInit, Differs("rewrites only numbers from 1 to 31")),
    ("a_real_time_signal_keeps_its_value", DumbInit, NO_VALUE),
    ("a_real_time_signal_keeps_its_value_for_a_single_child", DumbInit, NO_VALUE),
    ("queued_real_time_signals_arrive_in_their_order", DumbInit, NO_VALUE),
    ("a_term_that_arrives_before_the_setsid_reaches_the_child", DumbInit, LOST),
    ("a_term_that_arrives_before_the_setsid_reaches_the_child_in_a_namespace", DumbInit, LOST),
    ("a_hang_up_that_arrives_before_the_setsid_reaches_the_child", DumbInit, LOST),
    ("a_real_time_signal_that_arrives_before_the_setsid_reaches_the_child", DumbInit, LOST),
    ("a_term_that_arrives_before_the_exec_reaches_the_command", DumbInit, BY_LUCK),
    ("a_term_sent_as_soon_as_there_is_a_child_reaches_the_command", DumbInit, BY_LUCK),
    ("ignored_signals_stay_ignored_for_the_command", DumbInit, Differs("resets inherited dispositions")),
    ("an_ignored_hang_up_stays_ignored_for_the_command", DumbInit, Differs("resets inherited dispositions")),
    ("an_ignored_sigchld_stays_ignored_for_the_command", DumbInit, Differs("resets inherited dispositions")),
    ("blocked_signals_stay_blocked_for_the_command", DumbInit, Differs("unblocks every signal")),
    ("a_listen_pid_that_named_us_names_the_command", DumbInit, Differs("LISTEN_PID is left alone")),
    ("a_parents_death_gives_us_the_signal_that_we_asked_for", DumbInit, NotApplicable("no --parent-death-signal")),
    ("a_background_cleanup_completes_although_the_shell_died_at_once", DumbInit, LEAVES_AT_ONCE),
    ("a_background_cleanup_completes_outside_too", DumbInit, LEAVES_AT_ONCE),
    ("leftovers_get_a_term_when_the_command_exits_by_itself", DumbInit, LEAVES_AT_ONCE),
    ("leftovers_in_sessions_of_their_own_get_a_term_too", DumbInit, LEAVES_AT_ONCE),
    ("leftovers_that_ignore_the_term_are_killed_after_their_grace", DumbInit, NO_GRACE),
    ("leftovers_outside_are_killed_after_their_grace", DumbInit, NO_GRACE),
    ("we_leave_at_once_when_nothing_is_left", DumbInit, NO_GRACE),
    ("we_leave_as_soon_as_the_last_leftover_is_gone", DumbInit, NO_GRACE),
    ("a_stopped_leftover_is_continued_so_that_it_can_end", DumbInit, NO_GRACE),
    ("the_shebang_line_can_carry_options", DumbInit, NotApplicable("no -S")),
    ("a_cont_right_after_a_suspension_is_not_lost_by_pid_1", DumbInit, NotApplicable("whether the cont is lost depends on the moment")),
    ("a_ctrl_c_is_not_sent_a_second_time_to_a_single_child", DumbInit, SENT_TWICE),
    ("a_ctrl_c_reaches_a_command_that_is_a_shells_job_once", DumbInit, SENT_TWICE),
    ("the_log_is_valid_json_when_asked_for", DumbInit, NotApplicable("no --log-format")),
    ("a_log_record_is_one_line_whatever_is_in_it", DumbInit, Differs("prints names as they are")),
    ("a_full_stderr_that_nobody_reads_blocks_nothing", DumbInit, NotApplicable("no --log-level")),

    ("a_missing_script_interpreter_gives_127_and_is_named", Tini, Differs("the interpreter is not named")),
    ("our_own_usage_errors_give_125", Tini, Differs("a usage error gives 1")),
    ("a_fault_signal_sent_from_outside_reaches_the_child_once", Tini, FAULTS),
    ("a_fault_signal_reaches_the_child_when_we_are_an_ordinary_process", Tini, FAULTS),
    ("every_signal_can_be_rewritten", Tini, NO_REWRITES),
    ("every_signal_can_be_rewritten_for_a_single_child", Tini, NO_REWRITES),
    ("every_signal_can_be_dropped", Tini, NO_REWRITES),
    ("every_signal_can_be_dropped_for_a_single_child", Tini, NO_REWRITES),
    ("rewriting_takes_names_and_real_time_signals", Tini, NO_REWRITES),
    ("nothing_is_run_after_a_usage_error", Tini, NO_REWRITES),
    ("a_rewritten_signal_is_not_rewritten_again", Tini, NO_REWRITES),
    ("a_suspending_signal_rewritten_to_another_still_suspends_us", Tini, NO_REWRITES),
    ("the_child_leads_a_session_of_its_own", Tini, Differs("makes a group, not a session")),
    ("a_single_child_stays_in_our_group_and_session", Tini, Differs("always makes a group")),
    ("a_real_time_signal_keeps_its_value", Tini, NO_VALUE),
    ("a_real_time_signal_keeps_its_value_for_a_single_child", Tini, NO_VALUE),
    ("queued_real_time_signals_arrive_in_their_order", Tini, NO_VALUE),
    ("a_suspending_signal_reaches_a_single_child_unchanged", Tini, NOT_STOPPED),
    ("a_suspending_signal_stops_the_session_and_a_cont_wakes_it", Tini, NOT_STOPPED),
    ("we_suspend_ourselves_with_the_session_when_we_are_not_pid_1", Tini, NOT_STOPPED),
    ("a_signal_that_may_not_be_sent_is_never_our_end", Tini, Differs("ends when a signal cannot be sent")),
    ("a_term_that_arrives_before_the_setsid_reaches_the_child", Tini, NotApplicable("no setsid")),
    ("a_term_that_arrives_before_the_setsid_reaches_the_child_in_a_namespace", Tini, NotApplicable("no setsid")),
    ("a_hang_up_that_arrives_before_the_setsid_reaches_the_child", Tini, NotApplicable("no setsid")),
    ("a_real_time_signal_that_arrives_before_the_setsid_reaches_the_child", Tini, NotApplicable("no setsid")),
    ("a_term_that_arrives_before_the_exec_reaches_the_command", Tini, BY_LUCK),
    ("a_term_sent_as_soon_as_there_is_a_child_reaches_the_command", Tini, BY_LUCK),
    ("an_ignored_sigchld_stays_ignored_for_the_command", Tini, Differs("fails when SIGCHLD is ignored")),
    ("an_ignored_sigchld_does_not_cost_us_the_exit_status", Tini, Differs("fails when SIGCHLD is ignored")),
    ("a_closed_stdin_stays_closed", Tini, Differs("fails when stdin is closed")),
    ("closed_standard_streams_do_not_stop_us", Tini, Differs("fails when stdin is closed")),
    ("a_listen_pid_that_named_us_names_the_command", Tini, Differs("LISTEN_PID is left alone")),
    ("an_idle_init_is_never_woken", Tini, Differs("wakes up every second")),
    ("we_leave_the_working_directory_so_that_it_can_be_unmounted", Tini, Differs("stays in the working directory")),
    ("a_parents_death_gives_us_the_signal_that_we_asked_for", Tini, NotApplicable("another option, see personalities")),
    ("a_script_that_names_us_in_its_first_line_has_its_term_reach_both_processes", Tini, Differs("relays to the shell only")),
    ("a_background_cleanup_completes_although_the_shell_died_at_once", Tini, LEAVES_AT_ONCE),
    ("a_background_cleanup_completes_outside_too", Tini, LEAVES_AT_ONCE),
    ("leftovers_get_a_term_when_the_command_exits_by_itself", Tini, LEAVES_AT_ONCE),
    ("leftovers_in_sessions_of_their_own_get_a_term_too", Tini, LEAVES_AT_ONCE),
    ("leftovers_that_ignore_the_term_are_killed_after_their_grace", Tini, NO_GRACE),
    ("leftovers_outside_are_killed_after_their_grace", Tini, NO_GRACE),
    ("we_leave_at_once_when_nothing_is_left", Tini, NO_GRACE),
    ("we_leave_as_soon_as_the_last_leftover_is_gone", Tini, NO_GRACE),
    ("a_stopped_leftover_is_continued_so_that_it_can_end", Tini, NO_GRACE),
    ("the_shebang_line_can_carry_options", Tini, NotApplicable("no -S")),
    ("a_cont_right_after_a_suspension_is_not_lost_by_pid_1", Tini, NotApplicable("does not suspend")),
    ("a_ctrl_z_stops_us_and_the_command_and_fg_wakes_both", Tini, NotApplicable("does not suspend")),
    ("the_log_is_valid_json_when_asked_for", Tini, NotApplicable("no --log-format")),
    ("a_log_record_is_one_line_whatever_is_in_it", Tini, Differs("prints names as they are")),
    ("a_full_stderr_that_nobody_reads_blocks_nothing", Tini, NotApplicable("no --log-level")),

    ("a_shebang_scripts_background_cleanup_completes", DumbInit, LEAVES_AT_ONCE),
    ("a_shebang_scripts_background_cleanup_completes_on_a_desktop_too", DumbInit, LEAVES_AT_ONCE),
    ("every_hook_of_wrappers_around_wrappers_completes", DumbInit, LEAVES_AT_ONCE),
    ("every_hook_completes_when_the_wrappers_are_told_alone", DumbInit, LEAVES_AT_ONCE),
    ("every_hook_completes_when_the_programs_have_sessions_of_their_own", DumbInit, LEAVES_AT_ONCE),
    ("a_wrapper_with_a_trap_keeps_its_own_order", DumbInit, LEAVES_AT_ONCE),
    ("a_pipelines_end_completes", DumbInit, LEAVES_AT_ONCE),
    ("a_script_that_ends_by_itself_lets_its_background_finish", DumbInit, LEAVES_AT_ONCE),
    ("an_interrupt_ends_a_script_with_its_background", DumbInit, LEAVES_AT_ONCE),
    ("a_shebang_scripts_processes_need_not_wait_for_the_end_of_the_grace", DumbInit, NotApplicable("no -S")),
    ("a_shebang_scripts_first_line_can_hold_a_whole_shutdown", DumbInit, NotApplicable("no -S")),

    ("a_shebang_scripts_background_cleanup_completes", Tini, LEAVES_AT_ONCE),
    ("a_shebang_scripts_background_cleanup_completes_on_a_desktop_too", Tini, LEAVES_AT_ONCE),
    ("every_hook_of_wrappers_around_wrappers_completes", Tini, LEAVES_AT_ONCE),
    ("every_hook_completes_when_the_wrappers_are_told_alone", Tini, LEAVES_AT_ONCE),
    ("every_hook_completes_when_the_programs_have_sessions_of_their_own", Tini, LEAVES_AT_ONCE),
    ("a_wrapper_with_a_trap_keeps_its_own_order", Tini, LEAVES_AT_ONCE),
    ("a_pipelines_end_completes", Tini, LEAVES_AT_ONCE),
    ("a_script_that_ends_by_itself_lets_its_background_finish", Tini, LEAVES_AT_ONCE),
    ("an_interrupt_ends_a_script_with_its_background", Tini, LEAVES_AT_ONCE),
    ("a_shebang_scripts_processes_need_not_wait_for_the_end_of_the_grace", Tini, NotApplicable("no -S")),
    ("a_shebang_scripts_first_line_can_hold_a_whole_shutdown", Tini, NotApplicable("no -S")),
    ("a_docker_stop_lets_every_process_finish_and_keeps_the_commands_status", DumbInit, LEAVES_AT_ONCE),
    ("a_docker_stop_of_three_seconds_is_met_with_the_same_grace", DumbInit, Differs("Docker kills it with everything that was left to do")),
    ("a_read_only_root_changes_nothing", DumbInit, LEAVES_AT_ONCE),
    ("a_read_only_root_still_has_a_control_socket", DumbInit, NO_SOCKET),
    ("no_user_no_capability_and_no_new_privileges_change_nothing", DumbInit, LEAVES_AT_ONCE),
    ("an_unprivileged_init_answers_its_own_user", DumbInit, NO_SOCKET),
    ("a_full_container_is_stopped_without_a_process_to_spare", DumbInit, Differs("has no pre-stop step and no summary")),
    ("a_command_that_runs_out_of_memory_gives_137_and_its_workers_finish", DumbInit, LEAVES_AT_ONCE),
    ("in_the_hosts_pid_namespace_only_our_own_descendants_are_told", DumbInit, LEAVES_AT_ONCE),
    ("below_dockers_own_init_we_are_not_pid_1_and_every_process_finishes", DumbInit, LEAVES_AT_ONCE),
    ("two_containers_that_share_their_processes_and_memory_are_stopped_one_by_one", DumbInit, LEAVES_AT_ONCE),
    ("a_health_check_by_ready_fails_as_soon_as_the_shutdown_begins", DumbInit, NO_SOCKET),
    ("a_docker_stop_lets_every_process_finish_and_keeps_the_commands_status", Tini, LEAVES_AT_ONCE),
    ("a_docker_stop_of_three_seconds_is_met_with_the_same_grace", Tini, Differs("Docker kills it with everything that was left to do")),
    ("a_read_only_root_changes_nothing", Tini, LEAVES_AT_ONCE),
    ("a_read_only_root_still_has_a_control_socket", Tini, NO_SOCKET),
    ("no_user_no_capability_and_no_new_privileges_change_nothing", Tini, LEAVES_AT_ONCE),
    ("an_unprivileged_init_answers_its_own_user", Tini, NO_SOCKET),
    ("a_full_container_is_stopped_without_a_process_to_spare", Tini, Differs("has no pre-stop step and no summary")),
    ("a_command_that_runs_out_of_memory_gives_137_and_its_workers_finish", Tini, LEAVES_AT_ONCE),
    ("in_the_hosts_pid_namespace_only_our_own_descendants_are_told", Tini, LEAVES_AT_ONCE),
    ("below_dockers_own_init_we_are_not_pid_1_and_every_process_finishes", Tini, LEAVES_AT_ONCE),
    ("two_containers_that_share_their_processes_and_memory_are_stopped_one_by_one", Tini, LEAVES_AT_ONCE),
    ("a_health_check_by_ready_fails_as_soon_as_the_shutdown_begins", Tini, NO_SOCKET),
];
