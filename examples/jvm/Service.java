import java.util.concurrent.CountDownLatch;

/** Serves until it is stopped, and finishes what it has begun in a shutdown hook, as frameworks do. */
public class Service {
    public static void main(String[] words) throws InterruptedException {
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            System.out.println("service: finishing what it has begun");
            try {
                Thread.sleep(1_000);
            } catch (InterruptedException e) {
                System.out.println("service: interrupted");
                return;
            }
            System.out.println("service: finished");
        }));
        System.out.println("service: ready");
        new CountDownLatch(1).await();
    }
}
