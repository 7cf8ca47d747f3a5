import java.io.FileInputStream;
import java.io.UncheckedIOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.HexFormat;

/** Arguments: the URL, a file with a small body, a file with a large body. */
public class Predict {
    private static final HttpClient CLIENT = HttpClient.newHttpClient();
    private static String url;

    public static void main(String[] arguments) throws Exception {
        url = arguments[0];
        Path small = Path.of(arguments[1]);
        Path large = Path.of(arguments[2]);
        report("small", BodyPublishers.ofFile(small));
        report("again", BodyPublishers.ofFile(small));
        report("large", BodyPublishers.ofFile(large));
        report("chunked", BodyPublishers.ofInputStream(() -> open(large)));
        // A new client, whose first request is the large one.
        HttpClient fresh = HttpClient.newHttpClient();
        report("large first", fresh, BodyPublishers.ofFile(large));
    }

    private static void report(String name, BodyPublisher body) throws Exception {
        report(name, CLIENT, body);
    }

    private static void report(String name, HttpClient client, BodyPublisher body) throws Exception {
        HttpRequest request = HttpRequest.newBuilder(URI.create(url))
            .header("Content-Type", "application/json")
            .POST(body)
            .build();
        var response = client.send(request, BodyHandlers.ofByteArray());
        byte[] digest = MessageDigest.getInstance("SHA-256").digest(response.body());
        System.out.println(name + "\t" + response.statusCode() + "\t" + HexFormat.of().formatHex(digest));
    }

    private static FileInputStream open(Path path) {
        try {
            return new FileInputStream(path.toFile());
        } catch (java.io.IOException error) {
            throw new UncheckedIOException(error);
        }
    }
}
