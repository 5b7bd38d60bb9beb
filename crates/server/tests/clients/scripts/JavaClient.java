// Java's HttpClient and HttpURLConnection, in the ways people write them: one line a way, its name
// and the status or exception.
import java.net.Authenticator;
import java.net.HttpURLConnection;
import java.net.PasswordAuthentication;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.security.cert.X509Certificate;
import java.util.Base64;
import javax.net.ssl.HttpsURLConnection;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLEngine;
import javax.net.ssl.TrustManager;
import javax.net.ssl.X509ExtendedTrustManager;

public class JavaClient {
    static final String URL = System.getenv("URL"), KEY = System.getenv("KEY");
    static SSLContext tls;

    interface Work { int run() throws Exception; }

    static void say(String name, Work work) {
        String said;
        try {
            said = String.valueOf(work.run());
        } catch (Exception error) {
            said = error.getClass().getSimpleName();
        }
        System.out.println(name + " " + said);
    }

    static Authenticator authenticator(String password) {
        return new Authenticator() {
            @Override protected PasswordAuthentication getPasswordAuthentication() {
                return new PasswordAuthentication(KEY, password.toCharArray());
            }
        };
    }

    static HttpClient.Builder client() { return HttpClient.newBuilder().sslContext(tls); }

    static HttpRequest.Builder request() { return HttpRequest.newBuilder(URI.create(URL)); }

    static int send(HttpClient.Builder client, HttpRequest.Builder request) throws Exception {
        return client.build().send(request.build(), BodyHandlers.ofString()).statusCode();
    }

    static String basic(String text) {
        return "Basic " + Base64.getEncoder().encodeToString(text.getBytes());
    }

    public static void main(String[] none) throws Exception {
        tls = SSLContext.getInstance("TLS");
        tls.init(null, new TrustManager[] {new TrustAll()}, null);
        say("no-key", () -> send(client(), request()));
        say("authenticator", () -> send(client().authenticator(authenticator("")), request()));
        say("authenticator-http1", () -> send(
            client().version(HttpClient.Version.HTTP_1_1).authenticator(authenticator("")), request()));
        say("authenticator-with-password", () -> send(client().authenticator(authenticator("x")), request()));
        say("header", () -> send(client(), request().header("Authorization", basic(KEY + ":"))));
        say("header-without-colon", () -> send(client(), request().header("Authorization", basic(KEY))));
        say("set-header", () -> send(client(), request().setHeader("Authorization", basic(KEY + ":"))));
        say("header-twice", () -> send(client(),
            request().header("Authorization", basic(KEY + ":")).header("Authorization", basic(KEY + ":"))));
        say("connection", () -> {
            HttpsURLConnection connection = (HttpsURLConnection) URI.create(URL).toURL().openConnection();
            connection.setSSLSocketFactory(tls.getSocketFactory());
            connection.setHostnameVerifier((host, session) -> true);
            connection.setAuthenticator(authenticator(""));
            return connection.getResponseCode();
        });
        System.exit(0);
    }

    static class TrustAll extends X509ExtendedTrustManager {
        public void checkClientTrusted(X509Certificate[] c, String a) {}
        public void checkServerTrusted(X509Certificate[] c, String a) {}
        public void checkClientTrusted(X509Certificate[] c, String a, java.net.Socket s) {}
        public void checkServerTrusted(X509Certificate[] c, String a, java.net.Socket s) {}
        public void checkClientTrusted(X509Certificate[] c, String a, SSLEngine e) {}
        public void checkServerTrusted(X509Certificate[] c, String a, SSLEngine e) {}
        public X509Certificate[] getAcceptedIssuers() { return new X509Certificate[0]; }
    }
}
