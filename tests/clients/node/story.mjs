// What the service library for Node does to a hub, step by step; prints {step: result or {error: text}} as JSON.
import { createRequire } from "node:module";

const require = createRequire(`${process.argv[2]}/`);
const { Registry, Client, JobClient } = require("azure-iothub");
const connection = process.argv[3];
const registry = Registry.fromConnectionString(connection);
const told = {};

async function step(name, act) {
  try {
    const result = await act();
    told[name] = result === undefined ? null : result;
  } catch (error) {
    told[name] = { error: error.message, status: error.response?.statusCode ?? error.statusCode ?? null, name: error.name };
  }
  return told[name];
}

const body = (answer) => answer.responseBody ?? null;
const content = JSON.parse(process.argv[4]);

await step("create", async () => body(await registry.create({ deviceId: "node-1", status: "enabled", capabilities: { iotEdge: true } })));
await step("get", async () => body(await registry.get("node-1")));
await step("update", async () => body(await registry.update({ ...told.get, status: "disabled", statusReason: "x" })));
await step("enable", async () => body(await registry.update({ deviceId: "node-1", status: "enabled" , capabilities: { iotEdge: true } })));
await step("list", async () => body(await registry.list()).map((device) => device.deviceId));
await step("addDevices", async () => body(await registry.addDevices([{ deviceId: "node-2", status: "enabled" }, { deviceId: "node-3" }])));
await step("updateDevices", async () => body(await registry.updateDevices([{ deviceId: "node-2", status: "disabled" }], true)));
await step("updateDevicesIfMatch", async () => {
  const device = body(await registry.get("node-2"));
  return body(await registry.updateDevices([{ ...device, status: "enabled" }], false));
});
await step("removeDevices", async () => body(await registry.removeDevices([{ deviceId: "node-3" }], true)));
await step("removeDevicesIfMatch", async () => {
  const device = body(await registry.get("node-2"));
  return body(await registry.removeDevices([device], false));
});
await step("twin", async () => body(await registry.getTwin("node-1")).toJSON());
await step("updateTwin", async () => body(await registry.updateTwin("node-1", { tags: { site: "north" } }, "*")).toJSON().tags);
await step("updateTwinEtag", async () => {
  const twin = body(await registry.getTwin("node-1"));
  return body(await registry.updateTwin("node-1", { properties: { desired: { rate: 5 } } }, twin.etag)).toJSON().properties.desired.rate;
});
await step("twinUpdate", async () => {
  await body(await registry.getTwin("node-1")).update({ tags: { floor: 2 } });
  return body(await registry.getTwin("node-1")).toJSON().tags;
});
await step("addModule", async () => body(await registry.addModule({ deviceId: "node-1", moduleId: "m" })));
await step("modules", async () => body(await registry.getModulesOnDevice("node-1")).map((module) => module.moduleId));
await step("module", async () => body(await registry.getModule("node-1", "m")));
await step("updateModule", async () => body(await registry.updateModule({ ...told.module, managedBy: "me" }, true)).managedBy);
await step("moduleTwin", async () => body(await registry.updateModuleTwin("node-1", "m", { tags: { a: 1 } }, "*")).toJSON().tags);
await step("removeModule", async () => (await registry.removeModule("node-1", "m")).httpResponse?.statusCode ?? null);
await step("addConfiguration", async () => body(await registry.addConfiguration({ id: "node-conf", content, targetCondition: "tags.site='north'", priority: 3 })));
await step("configurations", async () => body(await registry.getConfigurations()).map((configuration) => configuration.id));
await step("configuration", async () => body(await registry.getConfiguration("node-conf")));
await step("updateConfiguration", async () => body(await registry.updateConfiguration({ ...told.configuration, priority: 4 }, true)).priority);
await step("updateConfigurationEtag", async () => {
  const configuration = body(await registry.getConfiguration("node-conf"));
  return body(await registry.updateConfiguration({ ...configuration, priority: 5 })).priority;
});
await step("removeConfiguration", async () => (await registry.removeConfiguration("node-conf")).httpResponse?.statusCode ?? null);
await step("apply", async () => (await registry.applyConfigurationContentOnDevice("node-1", content)).httpResponse?.statusCode ?? null);
await step("query", async () => {
  const query = registry.createQuery("SELECT * FROM devices WHERE deviceId = 'node-1'", 1);
  const pages = [];
  while (query.hasMoreResults) pages.push((await query.nextAsTwin()).result.map((twin) => twin.deviceId));
  return pages;
});
await step("rawQuery", async () => (await registry.createQuery("SELECT COUNT() AS n FROM devices").next()).result);
await step("statistics", async () => body(await registry.getRegistryStatistics()));
await step("method", async () => {
  const client = Client.fromConnectionString(connection);
  return await new Promise((resolve, reject) => client.invokeDeviceMethod("node-1", { methodName: "reboot", payload: null, responseTimeoutInSeconds: 30 },
    (error, result) => (error ? reject(error) : resolve(result))));
});
await step("moduleMethod", async () => {
  const client = Client.fromConnectionString(connection);
  return await new Promise((resolve, reject) => client.invokeDeviceMethod("node-1", "$edgeAgent", { methodName: "ping" },
    (error, result) => (error ? reject(error) : resolve(result))));
});
await step("unknownMethod", async () => {
  const client = Client.fromConnectionString(connection);
  return await new Promise((resolve, reject) => client.invokeDeviceMethod("nowhere", { methodName: "reboot" },
    (error, result) => (error ? reject(error) : resolve(result))));
});
await step("jobs", async () => {
  const query = JobClient.fromConnectionString(connection).createQuery();
  return (await query.next()).result;
});
await step("listJobs", async () => body(await registry.listJobs()));
await step("leaf", async () => {
  const parent = body(await registry.get("node-1"));
  return body(await registry.create({ deviceId: "node-leaf", deviceScope: parent.deviceScope }));
});
await step("leafOfScope", async () => body(await registry.get("node-leaf")).parentScopes);
await step("delete", async () => (await registry.delete("node-1")).httpResponse?.statusCode ?? null);
await step("deleteLeaf", async () => (await registry.delete("node-leaf")).httpResponse?.statusCode ?? null);

console.log(JSON.stringify(told, null, 1));
