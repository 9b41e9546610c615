// What the service library for Java does to a hub, step by step; prints {step: result or {error: text}} as JSON.
import com.google.gson.Gson;
import com.microsoft.azure.sdk.iot.service.auth.AuthenticationType;
import com.microsoft.azure.sdk.iot.service.configurations.Configuration;
import com.microsoft.azure.sdk.iot.service.configurations.ConfigurationContent;
import com.microsoft.azure.sdk.iot.service.configurations.ConfigurationsClient;
import com.microsoft.azure.sdk.iot.service.methods.DirectMethodsClient;
import com.microsoft.azure.sdk.iot.service.query.QueryClient;
import com.microsoft.azure.sdk.iot.service.query.QueryPageOptions;
import com.microsoft.azure.sdk.iot.service.registry.Device;
import com.microsoft.azure.sdk.iot.service.registry.DeviceStatus;
import com.microsoft.azure.sdk.iot.service.registry.Module;
import com.microsoft.azure.sdk.iot.service.registry.RegistryClient;
import com.microsoft.azure.sdk.iot.service.twin.DeviceCapabilities;
import com.microsoft.azure.sdk.iot.service.twin.Twin;
import com.microsoft.azure.sdk.iot.service.twin.TwinClient;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;

public class Story {
    static final Map<String, Object> told = new LinkedHashMap<>();

    static void step(String name, Callable<Object> act) {
        try {
            told.put(name, act.call());
        } catch (Exception error) {
            told.put(name, Map.of("error", String.valueOf(error.getMessage()), "kind", error.getClass().getSimpleName()));
        }
    }

    static Map<String, Object> shown(Device device) {
        Map<String, Object> members = new HashMap<>();
        members.put("status", device.getStatus().getValue());
        members.put("edge", device.getCapabilities() != null && device.getCapabilities().isIotEdge());
        members.put("type", String.valueOf(device.getAuthenticationType()));
        members.put("scope", device.getScope());
        members.put("parents", device.getParentScopes());
        return members;
    }

    @SuppressWarnings("unchecked")
    public static void main(String[] words) throws Exception {
        String connection = words[0];
        Map<String, Object> given = new Gson().fromJson(words[1], Map.class);
        ConfigurationContent content = new ConfigurationContent();
        content.setModulesContent((Map<String, Map<String, Object>>) given.get("modulesContent"));
        RegistryClient registry = new RegistryClient(connection);
        TwinClient twins = new TwinClient(connection);
        ConfigurationsClient configurations = new ConfigurationsClient(connection);
        QueryClient queries = new QueryClient(connection);
        DirectMethodsClient methods = new DirectMethodsClient(connection);

        Device edge = new Device("java-1", AuthenticationType.SAS);
        DeviceCapabilities capable = new DeviceCapabilities();
        capable.setIotEdge(true);
        edge.setCapabilities(capable);
        step("create", () -> shown(registry.addDevice(edge)));
        step("get", () -> shown(registry.getDevice("java-1")));
        step("disable", () -> {
            Device device = registry.getDevice("java-1");
            device.setStatus(DeviceStatus.Disabled);
            return shown(registry.updateDevice(device));
        });
        step("enable", () -> {
            Device device = registry.getDevice("java-1");
            device.setStatus(DeviceStatus.Enabled);
            return shown(registry.updateDevice(device));
        });
        step("selfSigned", () -> {
            Device device = new Device("java-x", AuthenticationType.SELF_SIGNED);
            device.setThumbprint("A".repeat(40), "B".repeat(40));
            return shown(registry.addDevice(device));
        });
        step("authority", () -> shown(registry.addDevice(new Device("java-ca", AuthenticationType.CERTIFICATE_AUTHORITY))));
        step("twin", () -> twins.get("java-1").getTags());
        step("patch", () -> {
            Twin twin = new Twin("java-1");
            twin.getTags().put("site", "north");
            twin.getDesiredProperties().put("rate", 5);
            return twins.patch(twin).getTags().get("site");
        });
        step("replace", () -> {
            Twin twin = twins.get("java-1");
            twin.getTags().put("floor", 2);
            return twins.replace(twin).getTags().get("floor");
        });
        step("addModule", () -> registry.addModule(new Module("java-1", "m", AuthenticationType.SAS)).getId());
        step("updateModule", () -> registry.updateModule(registry.getModule("java-1", "m")).getId());
        step("modules", () -> {
            List<String> names = new ArrayList<>();
            for (Module module : registry.getModulesOnDevice("java-1")) names.add(module.getId());
            return names;
        });
        step("moduleTwin", () -> {
            Twin twin = new Twin("java-1", "m");
            twin.getTags().put("a", 1);
            return twins.patch(twin).getTags().get("a");
        });
        step("removeModule", () -> {
            registry.removeModule("java-1", "m");
            return true;
        });
        step("addConfiguration", () -> {
            Configuration configuration = new Configuration("java-conf");
            configuration.setContent(content);
            configuration.setTargetCondition("tags.site='north'");
            configuration.setPriority(3);
            return configurations.create(configuration).getPriority();
        });
        step("configurations", () -> {
            List<String> names = new ArrayList<>();
            for (Configuration configuration : configurations.get(10)) names.add(configuration.getId());
            return names;
        });
        step("replaceConfiguration", () -> {
            Configuration configuration = configurations.get("java-conf");
            configuration.setPriority(4);
            return configurations.replace(configuration).getPriority();
        });
        step("deleteConfiguration", () -> {
            configurations.delete("java-conf");
            return true;
        });
        step("apply", () -> {
            configurations.applyConfigurationContentOnDevice("java-1", content);
            return true;
        });
        step("query", () -> {
            List<String> names = new ArrayList<>();
            var found = queries.queryTwins("SELECT * FROM devices WHERE deviceId = 'java-1'", QueryPageOptions.builder().pageSize(1).build());
            while (found.hasNext()) names.add(found.next().getDeviceId());
            return names;
        });
        step("rawQuery", () -> {
            List<String> rows = new ArrayList<>();
            var found = queries.queryRaw("SELECT COUNT() AS n FROM devices");
            while (found.hasNext()) rows.add(found.next());
            return rows;
        });
        step("statistics", () -> registry.getStatistics().getTotalDeviceCount());
        step("method", () -> methods.invoke("java-1", "reboot").getStatus());
        step("moduleMethod", () -> methods.invoke("java-1", "$edgeAgent", "ping").getStatus());
        step("unknownMethod", () -> methods.invoke("nowhere", "reboot").getStatus());
        step("leaf", () -> {
            Device leaf = new Device("java-leaf");
            leaf.setScope(registry.getDevice("java-1").getScope());
            return shown(registry.addDevice(leaf));
        });
        step("leafWithoutScope", () -> {
            Device leaf = registry.getDevice("java-leaf");
            leaf.setScope("");
            return shown(registry.updateDevice(leaf));
        });
        for (String name : List.of("java-leaf", "java-x", "java-ca", "java-1")) {
            step("delete " + name, () -> {
                registry.removeDevice(name);
                return true;
            });
        }
        System.out.println(new Gson().toJson(told));
        System.exit(0);
    }
}
