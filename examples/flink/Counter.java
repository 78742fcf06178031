import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;

/** Counts for ever. Where it is in the sequence is its state: a savepoint holds it, and a restart goes on from there. */
public class Counter {
    public static void main(String[] words) throws Exception {
        StreamExecutionEnvironment environment = StreamExecutionEnvironment.getExecutionEnvironment();
        environment.setParallelism(1);
        environment
            .fromSequence(1, Long.MAX_VALUE).uid("numbers")
            .map(Counter::slowly).uid("slowly")
            .map(number -> "counter: " + number).uid("words").returns(String.class)
            .print().uid("print");
        environment.execute("counter");
    }

    private static Long slowly(Long number) throws InterruptedException {
        Thread.sleep(50);
        return number;
    }
}
