from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('triggerapp', '0009_run_version'),
    ]

    operations = [
        migrations.AlterField(
            model_name='apikey',
            name='environment',
            field=models.ForeignKey(null=True, on_delete=models.deletion.CASCADE, related_name='keys', to='triggerapp.environment'),
        ),
        migrations.AddField(
            model_name='apikey',
            name='owner',
            field=models.CharField(db_default='', default='', max_length=255),
        ),
        migrations.AddConstraint(
            model_name='apikey',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('environment__isnull', False), ('owner', '')), models.Q(models.Q(('owner', ''), _negated=True), ('environment__isnull', True)), _connector='OR'), name='key_of_one'),
        ),
    ]
