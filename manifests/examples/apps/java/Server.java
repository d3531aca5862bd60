// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

import com.sun.net.httpserver.HttpsConfigurator;
import com.sun.net.httpserver.HttpsExchange;
import com.sun.net.httpserver.HttpsParameters;
import com.sun.net.httpserver.HttpsServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.KeyStore;
import java.security.cert.CertificateException;
import java.security.cert.X509Certificate;
import java.util.concurrent.Executors;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.KeyStoreBuilderParameters;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLEngine;
import javax.net.ssl.SSLParameters;
import javax.net.ssl.TrustManager;
import javax.net.ssl.TrustManagerFactory;
import javax.net.ssl.X509ExtendedTrustManager;

/**
 * An example of a server in Java that takes up its new certificates while it runs, from PKCS #12 files and with nothing but the JDK. It lets
 * in only clients with a certificate of the same signerName.
 */
public final class Server {
    public static void main(String[] arguments) throws Exception {
        Stores stores = new Stores(Path.of(System.getenv().getOrDefault("TLS_DIRECTORY", "/var/run/secrets/certwright.dev/tls")));
        stores.current();

        // NewSunX509 asks its builders for the keystore anew in each handshake.
        KeyManagerFactory keys = KeyManagerFactory.getInstance("NewSunX509");
        keys.init(new KeyStoreBuilderParameters(stores));
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(keys.getKeyManagers(), new TrustManager[] {new FreshTrust(stores)}, null);

        HttpsServer server = HttpsServer.create(new InetSocketAddress(Integer.parseInt(System.getenv().getOrDefault("PORT", "8443"))), 0);
        server.setHttpsConfigurator(new HttpsConfigurator(context) {
            @Override
            public void configure(HttpsParameters parameters) {
                SSLParameters wanted = getSSLContext().getDefaultSSLParameters();
                wanted.setNeedClientAuth(true);
                parameters.setSSLParameters(wanted);
            }
        });
        server.createContext("/", exchange -> {
            X509Certificate client = (X509Certificate) ((HttpsExchange) exchange).getSSLSession().getPeerCertificates()[0];
            byte[] answer = ("hello " + names(client) + "\n").getBytes(StandardCharsets.UTF_8);
            exchange.sendResponseHeaders(200, answer.length);
            exchange.getResponseBody().write(answer);
            exchange.close();
        });
        server.setExecutor(Executors.newCachedThreadPool());
        server.start();
        System.out.println("listening");
    }

    private static Object names(X509Certificate certificate) throws IOException {
        try {
            return certificate.getSubjectAlternativeNames();
        } catch (CertificateException e) {
            throw new IOException(e);
        }
    }

    /** What is in the directory, read again when it changed. Files that cannot be used leave those before. */
    private static final class Stores extends KeyStore.Builder {
        private record Loaded(Path generation, KeyStore keys, char[] password, X509ExtendedTrustManager trust) {}

        private final Path directory;
        private Loaded loaded;

        Stores(Path directory) {
            this.directory = directory;
        }

        /** All files are links below ..data, a link that is replaced when they change. Where it leads are files that belong together. */
        synchronized Loaded current() {
            try {
                Path generation = directory.resolve("..data").toRealPath();
                if (loaded == null || !loaded.generation.equals(generation)) {
                    loaded = load(generation);
                    System.out.println("serving with a new certificate");
                }
            } catch (IOException | GeneralSecurityException e) {
                if (loaded == null) {
                    throw new IllegalStateException("there is no certificate", e);
                }
                System.err.println("keeping the certificate that is in use: " + e);
            }
            return loaded;
        }

        private static Loaded load(Path generation) throws IOException, GeneralSecurityException {
            char[] password = Files.readString(generation.resolve("keystore-password")).strip().toCharArray();
            KeyStore keys = KeyStore.getInstance(generation.resolve("keystore.p12").toFile(), password);
            TrustManagerFactory factory = TrustManagerFactory.getInstance("PKIX");
            factory.init(KeyStore.getInstance(generation.resolve("truststore.p12").toFile(), password));
            return new Loaded(generation, keys, password, (X509ExtendedTrustManager) factory.getTrustManagers()[0]);
        }

        @Override
        public KeyStore getKeyStore() {
            return current().keys;
        }

        @Override
        public KeyStore.ProtectionParameter getProtectionParameter(String alias) {
            return new KeyStore.PasswordProtection(current().password);
        }
    }

    /** Verifies clients with the truststore as it is now. */
    private static final class FreshTrust extends X509ExtendedTrustManager {
        private final Stores stores;

        FreshTrust(Stores stores) {
            this.stores = stores;
        }

        @Override
        public void checkClientTrusted(X509Certificate[] chain, String type, SSLEngine engine) throws CertificateException {
            stores.current().trust.checkClientTrusted(chain, type, engine);
        }

        @Override
        public void checkClientTrusted(X509Certificate[] chain, String type, Socket socket) throws CertificateException {
            stores.current().trust.checkClientTrusted(chain, type, socket);
        }

        @Override
        public void checkClientTrusted(X509Certificate[] chain, String type) throws CertificateException {
            stores.current().trust.checkClientTrusted(chain, type);
        }

        @Override
        public void checkServerTrusted(X509Certificate[] chain, String type, SSLEngine engine) throws CertificateException {
            stores.current().trust.checkServerTrusted(chain, type, engine);
        }

        @Override
        public void checkServerTrusted(X509Certificate[] chain, String type, Socket socket) throws CertificateException {
            stores.current().trust.checkServerTrusted(chain, type, socket);
        }

        @Override
        public void checkServerTrusted(X509Certificate[] chain, String type) throws CertificateException {
            stores.current().trust.checkServerTrusted(chain, type);
        }

        @Override
        public X509Certificate[] getAcceptedIssuers() {
            return stores.current().trust.getAcceptedIssuers();
        }
    }
}
