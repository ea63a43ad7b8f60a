import org.apache.flink.configuration.Configuration;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.TableEnvironment;

/** Submits SQL statements as one batch job: {@code java -cp <Flink's lib> RunSql.java REST_PORT PARALLELISM STATEMENT...}; prints its id. */
public class RunSql {
    public static void main(String[] arguments) {
        Configuration configuration = new Configuration();
        configuration.setString("execution.target", "remote");
        configuration.setString("rest.address", "127.0.0.1");
        configuration.setString("rest.port", arguments[0]);
        configuration.setString("parallelism.default", arguments[1]);
        TableEnvironment environment = TableEnvironment.create(
                EnvironmentSettings.newInstance().inBatchMode().withConfiguration(configuration).build());
        for (int position = 2; position < arguments.length; position++) {
            environment.executeSql(arguments[position]).getJobClient()
                    .ifPresent(client -> System.out.println("job " + client.getJobID()));
        }
    }
}
